# embed.cmake - run at build time: makes webui/dist where it is missing or older than its sources, then writes OUT, a C
# file that holds what stands there (page.h). Without npm, without a network or when the build fails, it says so and
# takes the dist from before; without one OUT holds no page, and the program tells a browser so.
#
#   cmake -DSOURCE=.../webui -DOUT=page.c [-DNPM=...] -P embed.cmake

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

set(files "")
if(EXISTS "${dist}/index.html")
  file(GLOB_RECURSE files RELATIVE "${dist}" "${dist}/*")
endif()
if(failed)
  if(files)
    message("The page could not be built anew and stays the one from before: ${failed}")
  else()
    message("The page is not in this build: ${failed}")
  endif()
  message("(To try again: touch ${SOURCE}/package.json and build.)")
endif()

set(types .html=text/html .js=text/javascript .mjs=text/javascript .css=text/css .svg=image/svg+xml)
set(blobs "")
set(rows "")
set(n 0)
foreach(file ${files})
  get_filename_component(extension "${file}" LAST_EXT)
  set(type "application/octet-stream")
  foreach(pair ${types})
    if(pair MATCHES "^([^=]*)=(.*)$" AND extension STREQUAL CMAKE_MATCH_1)
      set(type "${CMAKE_MATCH_2}")
    endif()
  endforeach()
  if(type MATCHES "^text/")
    string(APPEND type "; charset=utf-8")
  endif()
  set(path "/${file}")
  if(file STREQUAL "index.html")
    set(path "/")
  endif()
  set(immutable false)
  if(file MATCHES "^assets/")
    set(immutable true)
  endif()
  # This C file is written anew whenever dist is made, so that neither hash nor length in it can be stale.
  file(SHA256 "${dist}/${file}" hash)
  string(SUBSTRING ${hash} 0 32 hash)
  file(SIZE "${dist}/${file}" size)
  string(APPEND blobs "EMBED(page_${n}, \"${file}\");\n")
  string(APPEND rows "    {\"${path}\", \"${type}\", \"\\\"${hash}\\\"\", ${immutable}, page_${n}, ${size}},\n")
  math(EXPR n "${n} + 1")
endforeach()

# Another build folder may make dist anew before this one's compiler has run: it gets a copy of its own.
get_filename_component(folder "${OUT}" DIRECTORY)
file(REMOVE_RECURSE "${folder}/dist")
if(files)
  file(COPY "${dist}" DESTINATION "${folder}")
endif()

file(WRITE "${OUT}" "/* Made by webui/embed.cmake. */
#include \"webui/page.h\"

#define EMBED(symbol, file)                               \\
    __asm__(\".pushsection .rodata\\n\"                     \\
            \".balign 64\\n\" #symbol \":\\n\"                \\
            \".incbin \\\"${folder}/dist/\" file \"\\\"\\n\"    \\
            \".popsection\\n\");                            \\
    extern const char symbol[]

${blobs}
const page_file page_files[] = {
${rows}    {0},
};
")
