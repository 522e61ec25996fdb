# SPDX-License-Identifier: Apache-2.0
# Writes OUT, a C++ file with the text of each file in SOURCES.
set(text "// Generated from plugins/opencl/kernels: edit those.\n#include \"sources.hpp\"\n\n")
string(APPEND text "namespace switchyard::opencl {\n\nconst Source kSources[] = {\n")
foreach(file IN LISTS SOURCES)
  get_filename_component(name ${file} NAME)
  file(READ ${file} body)
  string(APPEND text "    {\"${name}\", R\"CL(${body})CL\"},\n")
endforeach()
list(LENGTH SOURCES count)
string(APPEND text "};\nconst unsigned kSourceCount = ${count};\n\n}  // namespace switchyard::opencl\n")
file(WRITE ${OUT} "${text}")
