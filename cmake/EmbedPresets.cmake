# SPDX-License-Identifier: Apache-2.0
# Presets are compiled into the library, so that no file lookup can fail: config/presets/*.yaml become
# string literals in <build>/generated/config/presets.hpp, written again when one of them changes.
function(switchyard_embed_presets target)
  file(GLOB files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/config/presets/*.yaml)
  set(SWITCHYARD_PRESETS "")
  foreach(file IN LISTS files)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    get_filename_component(name ${file} NAME_WE)
    file(READ ${file} text)
    string(APPEND SWITCHYARD_PRESETS "    Preset{\"${name}\", R\"yaml(${text})yaml\"},\n")
  endforeach()
  # The same for measurements of backends, config/measurements/*.json.
  file(GLOB files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/config/measurements/*.json)
  set(SWITCHYARD_MEASUREMENTS "")
  list(LENGTH files SWITCHYARD_MEASUREMENT_COUNT)
  foreach(file IN LISTS files)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    file(READ ${file} text)
    string(APPEND SWITCHYARD_MEASUREMENTS "    R\"json(${text})json\",\n")
  endforeach()
  configure_file(${PROJECT_SOURCE_DIR}/core/src/config/measurements.hpp.in
                 ${PROJECT_BINARY_DIR}/generated/config/measurements.hpp @ONLY)
  configure_file(${PROJECT_SOURCE_DIR}/core/src/config/presets.hpp.in
                 ${PROJECT_BINARY_DIR}/generated/config/presets.hpp @ONLY)
  target_include_directories(${target} PRIVATE ${PROJECT_BINARY_DIR}/generated)
endfunction()
