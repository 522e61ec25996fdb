# SPDX-License-Identifier: Apache-2.0
# `cmake --install` into any prefix, find_package(Switchyard) from there; and two targets:
# `runtime`, what a user runs without the tests, and `layers`, the layer check.
include(CMakePackageConfigHelpers)

target_compile_features(switchyard PUBLIC cxx_std_20)
install(TARGETS switchyard switchyard_plugin_headers EXPORT SwitchyardTargets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/core/include/switchyard
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/config/presets
        DESTINATION ${CMAKE_INSTALL_DATADIR}/switchyard)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE ${PROJECT_SOURCE_DIR}/plugins/README.md
        DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/Switchyard)
install(EXPORT SwitchyardTargets NAMESPACE Switchyard:: DESTINATION ${package_dir})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/SwitchyardConfig.cmake.in
  ${PROJECT_BINARY_DIR}/generated/SwitchyardConfig.cmake INSTALL_DESTINATION ${package_dir}
  PATH_VARS CMAKE_INSTALL_BINDIR CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/generated/SwitchyardConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/generated/SwitchyardConfig.cmake
              ${PROJECT_BINARY_DIR}/generated/SwitchyardConfigVersion.cmake
              ${PROJECT_SOURCE_DIR}/cmake/SwitchyardPlugin.cmake
              ${PROJECT_SOURCE_DIR}/cmake/plugin.map
        DESTINATION ${package_dir})

configure_file(${PROJECT_SOURCE_DIR}/cmake/switchyard.pc.in
               ${PROJECT_BINARY_DIR}/generated/switchyard.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/generated/switchyard.pc
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
include(Package)

add_custom_target(runtime DEPENDS switchyard switchyard_cli switchyard_worker)
get_property(plugin_folders DIRECTORY ${PROJECT_SOURCE_DIR}/plugins PROPERTY SUBDIRECTORIES)
foreach(folder IN LISTS plugin_folders)
  get_property(targets DIRECTORY ${folder} PROPERTY BUILDSYSTEM_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(type ${target} TYPE)
    if(type STREQUAL "MODULE_LIBRARY")
      add_dependencies(runtime ${target})
    endif()
  endforeach()
endforeach()
if(TARGET switchyard_python)
  add_dependencies(runtime switchyard_python)
endif()

# An upward include fails the build, not only a test: the stamp is older than any changed source.
find_package(Python3 QUIET COMPONENTS Interpreter)
if(Python3_Interpreter_FOUND)
  file(GLOB_RECURSE layered CONFIGURE_DEPENDS
    ${PROJECT_SOURCE_DIR}/core/*.h* ${PROJECT_SOURCE_DIR}/core/*.cpp
    ${PROJECT_SOURCE_DIR}/plugins/*.h* ${PROJECT_SOURCE_DIR}/plugins/*.cpp
    ${PROJECT_SOURCE_DIR}/plugins/*/CMakeLists.txt
    ${PROJECT_SOURCE_DIR}/apps/*.h* ${PROJECT_SOURCE_DIR}/apps/*.cpp)
  set(layer_check ${PROJECT_SOURCE_DIR}/cmake/layer_check.py)
  set(layer_stamp ${PROJECT_BINARY_DIR}/generated/layers.stamp)
  add_custom_command(OUTPUT ${layer_stamp}
    COMMAND Python3::Interpreter ${layer_check} ${PROJECT_SOURCE_DIR}
    COMMAND ${CMAKE_COMMAND} -E touch ${layer_stamp}
    DEPENDS ${layer_check} ${layered} COMMENT "Checking layers" VERBATIM)
  add_custom_target(layers ALL DEPENDS ${layer_stamp})
else()
  message(STATUS "Layer check: skipped, no Python 3")
endif()
