# webui.cmake - the page into the program, and its test. Included by the CMakeLists.txt above.

find_program(NPM npm)
find_program(NODE NAMES node nodejs)

# page.c is made again when a source of the page has changed; embed.cmake says when there is no page, and why.
file(GLOB_RECURSE webui_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/webui/src/* ${CMAKE_SOURCE_DIR}/webui/public/*)
set(webui_page ${CMAKE_BINARY_DIR}/webui/page.c)
add_custom_command(OUTPUT ${webui_page}
  COMMAND ${CMAKE_COMMAND} -DSOURCE=${CMAKE_SOURCE_DIR}/webui -DOUT=${webui_page} -DNPM=${NPM}
    -P ${CMAKE_SOURCE_DIR}/webui/embed.cmake
  DEPENDS ${webui_sources} ${CMAKE_SOURCE_DIR}/webui/embed.cmake ${CMAKE_SOURCE_DIR}/webui/index.html
    ${CMAKE_SOURCE_DIR}/webui/package.json ${CMAKE_SOURCE_DIR}/webui/package-lock.json
    ${CMAKE_SOURCE_DIR}/webui/tsconfig.json ${CMAKE_SOURCE_DIR}/webui/vite.config.js
  COMMENT "Building the page" VERBATIM)

add_library(webui STATIC ${webui_page})
target_link_libraries(webui PUBLIC pharos_options)
if(TARGET appliance)
  target_link_libraries(appliance PUBLIC webui)
endif()
