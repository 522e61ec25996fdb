# SPDX-License-Identifier: Apache-2.0
# switchyard_add_plugin(NAME SOURCES...): a loadable plugin that exports one symbol.
# Works in this tree and, through find_package(Switchyard), outside it.
set(SWITCHYARD_PLUGIN_CMAKE_DIR ${CMAKE_CURRENT_LIST_DIR})

function(switchyard_add_plugin name)
  add_library(${name}_plugin MODULE ${ARGN})
  set_target_properties(${name}_plugin PROPERTIES
    PREFIX "" OUTPUT_NAME switchyard_${name}
    C_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
    POSITION_INDEPENDENT_CODE ON
    LINK_DEPENDS ${SWITCHYARD_PLUGIN_CMAKE_DIR}/plugin.map)
  target_link_options(${name}_plugin PRIVATE
    -Wl,--version-script=${SWITCHYARD_PLUGIN_CMAKE_DIR}/plugin.map)
  target_link_libraries(${name}_plugin PRIVATE Switchyard::plugin_headers)
  if(SWITCHYARD_PLUGIN_OUTPUT)
    target_compile_definitions(${name}_plugin PRIVATE SWITCHYARD_VERSION="${PROJECT_VERSION}")
    set_target_properties(${name}_plugin PROPERTIES
      LIBRARY_OUTPUT_DIRECTORY ${SWITCHYARD_PLUGIN_OUTPUT})
    install(TARGETS ${name}_plugin COMPONENT plugins
            LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/switchyard/plugins)
  endif()
endfunction()
