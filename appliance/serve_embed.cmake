# serve_embed.cmake - writes a C file that holds openapi.json and the page (every file below DIST): a table of path,
# type, hash and bytes.
#   cmake -DOUT=static_files.c -DDIST=webui/dist -DOPENAPI=appliance/openapi.json -P serve_embed.cmake
cmake_minimum_required(VERSION 3.25)

set(text html js mjs css txt)
set(type_of_html "text/html")
set(type_of_js "text/javascript")
set(type_of_mjs "text/javascript")
set(type_of_css "text/css")
set(type_of_txt "text/plain")
set(type_of_json "application/json")
set(type_of_map "application/json")
set(type_of_webmanifest "application/manifest+json")
set(type_of_svg "image/svg+xml")
set(type_of_png "image/png")
set(type_of_jpg "image/jpeg")
set(type_of_ico "image/x-icon")
set(type_of_woff2 "font/woff2")
set(type_of_wasm "application/wasm")

set(n 0)
set(bytes "")
set(rows "")
# The builder puts a hash of the content into the names below /assets: those may be kept for good.
function(add path file)
  get_filename_component(extension "${file}" LAST_EXT)
  string(REGEX REPLACE "^\\." "" extension "${extension}")
  string(TOLOWER "${extension}" extension)
  set(type "application/octet-stream")
  if(DEFINED type_of_${extension})
    set(type "${type_of_${extension}}")
  endif()
  set(is_text false)
  if(extension IN_LIST text)
    set(is_text true)
  endif()
  set(immutable false)
  if(path MATCHES "^/assets/")
    set(immutable true)
  endif()
  file(SHA256 "${file}" hash)
  string(SUBSTRING "${hash}" 0 32 hash)
  string(APPEND bytes "EMBED(static_${n}, \"${file}\");\n")
  string(APPEND rows
    "    {\"${path}\", \"${type}\", \"\\\"${hash}\\\"\", ${is_text}, ${immutable}, static_${n}, static_${n}_end},\n")
  math(EXPR n "${n} + 1")
  foreach(name n bytes rows)
    set(${name} "${${name}}" PARENT_SCOPE)
  endforeach()
endfunction()

add("/openapi.json" "${OPENAPI}")
if(IS_DIRECTORY "${DIST}")
  file(GLOB_RECURSE files RELATIVE "${DIST}" "${DIST}/*")
  list(SORT files)
  foreach(file ${files})
    if(file MATCHES "[^A-Za-z0-9._/-]")
      message(FATAL_ERROR "${DIST}/${file}: no such characters in the names of the page's files")
    endif()
    set(path "/${file}")
    if(file STREQUAL "index.html")
      set(path "/")
    endif()
    add("${path}" "${DIST}/${file}")
  endforeach()
endif()

file(WRITE "${OUT}" "/* Made by appliance/serve_embed.cmake. */
#include \"appliance/http_static.h\"

#define EMBED(symbol, file)                                   \\
    __asm__(\".pushsection .rodata\\n\"                         \\
            \".global \" #symbol \"\\n\" #symbol \":\\n\"           \\
            \".incbin \\\"\" file \"\\\"\\n\"                       \\
            \".global \" #symbol \"_end\\n\" #symbol \"_end:\\n\"   \\
            \".byte 0\\n\"                                      \\
            \".popsection\\n\");                               \\
    extern const char symbol[], symbol##_end[]

${bytes}
const static_file static_files[] = {
${rows}    {0, 0, 0, false, false, 0, 0},
};
")
