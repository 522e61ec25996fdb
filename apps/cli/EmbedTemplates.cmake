# SPDX-License-Identifier: Apache-2.0
# The files of templates/ become string literals in <build>/generated/cli/templates.hpp, written again
# when one of them changes.
file(GLOB files CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/templates/*)
set(SWITCHYARD_TEMPLATES "")
foreach(file IN LISTS files)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  get_filename_component(name ${file} NAME)
  file(READ ${file} text)
  string(APPEND SWITCHYARD_TEMPLATES "    Template{\"${name}\", R\"template(${text})template\"},\n")
endforeach()
configure_file(${CMAKE_CURRENT_SOURCE_DIR}/src/templates.hpp.in
               ${PROJECT_BINARY_DIR}/generated/cli/templates.hpp @ONLY)
target_include_directories(switchyard_cli PRIVATE ${PROJECT_BINARY_DIR}/generated)
