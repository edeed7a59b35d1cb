# webui.cmake - builds the page before it is linked into the program, and its test. Included by the CMakeLists.txt above,
# after the rule that makes static_files.c out of webui/dist.

find_program(NPM npm)
find_program(NODE NAMES node nodejs)

file(GLOB_RECURSE webui_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/webui/src/* ${CMAKE_SOURCE_DIR}/webui/public/*)
list(TRANSFORM webui_sources REPLACE "^${CMAKE_SOURCE_DIR}/" "")
set(webui_stamp ${CMAKE_BINARY_DIR}/webui.stamp)
add_custom_command(OUTPUT ${webui_stamp}
  COMMAND ${CMAKE_COMMAND} -DSOURCE=${CMAKE_SOURCE_DIR}/webui -DSTAMP=${webui_stamp} -DNPM=${NPM}
    -P ${CMAKE_SOURCE_DIR}/webui/build.cmake
  DEPENDS ${webui_sources} webui/build.cmake webui/index.html webui/package.json webui/package-lock.json
    webui/tsconfig.json webui/vite.config.js
  COMMENT "Building the page" VERBATIM)
add_custom_target(webui DEPENDS ${webui_stamp})

if(TARGET appliance)
  add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/static_files.c APPEND DEPENDS ${webui_stamp})
endif()
