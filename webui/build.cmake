# build.cmake - run at build time: makes webui/dist where it is missing or older than its sources, copies it to COPY and
# touches STAMP. Without npm, without a network or when the build fails, it says so and dist stays as it is (or away):
# the program is built all the same, and tells a browser when it has no page.
#
#   cmake -DSOURCE=.../webui -DCOPY=FOLDER -DSTAMP=FILE [-DNPM=...] -P build.cmake

set(dist "${SOURCE}/dist")

# Several build folders share one dist: one makes it, the others wait.
file(LOCK "${SOURCE}/.build.lock" TIMEOUT 600 RESULT_VARIABLE locked)

function(newest out)
  set(latest 0)
  foreach(file ${ARGN})
    file(TIMESTAMP "${file}" time "%s" UTC)
    if(time GREATER latest)
      set(latest ${time})
    endif()
  endforeach()
  set(${out} ${latest} PARENT_SCOPE)
endfunction()

# Sets `failed` to what npm said, or to nothing.
function(npm)
  execute_process(COMMAND "${NPM}" ${ARGN} WORKING_DIRECTORY "${SOURCE}" RESULT_VARIABLE code OUTPUT_VARIABLE text
    ERROR_VARIABLE text)
  set(failed "" PARENT_SCOPE)
  if(NOT code EQUAL 0)
    set(failed "${text}" PARENT_SCOPE)
  endif()
endfunction()

file(GLOB_RECURSE sources "${SOURCE}/src/*" "${SOURCE}/public/*")
newest(source_time ${sources} "${SOURCE}/index.html" "${SOURCE}/package.json" "${SOURCE}/package-lock.json"
  "${SOURCE}/tsconfig.json" "${SOURCE}/vite.config.js")
set(dist_time 0)
if(EXISTS "${dist}/index.html")
  newest(dist_time "${dist}/index.html")
endif()

set(failed "")
if(dist_time LESS source_time)
  if(NPM)
    set(installed 0)
    if(EXISTS "${SOURCE}/node_modules/.package-lock.json")
      newest(installed "${SOURCE}/node_modules/.package-lock.json")
    endif()
    newest(wanted "${SOURCE}/package-lock.json" "${SOURCE}/package.json")
    if(installed LESS wanted)
      npm(ci --no-audit --no-fund)
    endif()
    if(NOT failed)
      npm(run build)
    endif()
  else()
    set(failed "npm was not found (on Debian: apt-get install nodejs npm)")
  endif()
endif()

if(failed)
  if(EXISTS "${dist}/index.html")
    message("The page could not be built anew and stays the one from before: ${failed}")
  else()
    message("The page is not in this build: ${failed}")
  endif()
  message("(To try again: touch ${SOURCE}/package.json and build.)")
endif()
# A copy for each build folder: another one may make dist anew while this one's compiler still reads it.
file(REMOVE_RECURSE "${COPY}")
if(EXISTS "${dist}/index.html")
  file(COPY "${dist}/" DESTINATION "${COPY}")
endif()
file(TOUCH "${STAMP}")
