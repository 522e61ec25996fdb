# SPDX-License-Identifier: Apache-2.0
# The API reference of the public headers: `ninja docs`, where doxygen is installed.
configure_file(${PROJECT_SOURCE_DIR}/docs/Doxyfile.in ${PROJECT_BINARY_DIR}/generated/Doxyfile @ONLY)
find_program(SWITCHYARD_DOXYGEN doxygen)
if(SWITCHYARD_DOXYGEN)
  add_custom_target(docs COMMAND ${SWITCHYARD_DOXYGEN} ${PROJECT_BINARY_DIR}/generated/Doxyfile
    COMMENT "Writing the API reference to docs/html" VERBATIM)
endif()
