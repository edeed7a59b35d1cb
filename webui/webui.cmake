# webui.cmake - builds the page before it is linked into the program, and its test. Included by the CMakeLists.txt above,
# after the rule that makes static_files.c out of the build folder's copy of webui/dist.

find_program(NPM npm)
find_program(NODE NAMES node nodejs)

file(GLOB_RECURSE webui_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/webui/src/* ${CMAKE_SOURCE_DIR}/webui/public/*)
list(TRANSFORM webui_sources REPLACE "^${CMAKE_SOURCE_DIR}/" "")
set(webui_stamp ${CMAKE_BINARY_DIR}/webui.stamp)
add_custom_command(OUTPUT ${webui_stamp}
  COMMAND ${CMAKE_COMMAND} -DSOURCE=${CMAKE_SOURCE_DIR}/webui -DCOPY=${CMAKE_BINARY_DIR}/page
    -DSTAMP=${webui_stamp} -DNPM=${NPM}
    -P ${CMAKE_SOURCE_DIR}/webui/build.cmake
  DEPENDS ${webui_sources} webui/build.cmake webui/index.html webui/package.json webui/package-lock.json
    webui/tsconfig.json webui/vite.config.js
  COMMENT "Building the page" VERBATIM)
add_custom_target(webui DEPENDS ${webui_stamp})

if(TARGET appliance)
  add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/static_files.c APPEND DEPENDS ${webui_stamp})
endif()

# Drives the page in a browser; says why and is skipped where there is no Chromium, no Node or no model. In the release
# build only: its waits are a person's, and the server has tests of its own for the sanitizers.
if(PHAROS_SANITIZE OR PHAROS_FUZZ)
elseif(TARGET pharos AND NODE)
  add_test(NAME test_webui COMMAND ${NODE} ${CMAKE_SOURCE_DIR}/tests/test_webui.mjs $<TARGET_FILE:pharos>)
  set_tests_properties(test_webui PROPERTIES TIMEOUT 900 SKIP_RETURN_CODE 77)
elseif(TARGET pharos)
  message(STATUS "test_webui is left out: there is no Node")
endif()
