# SPDX-License-Identifier: Apache-2.0
# Warnings, sanitizers and linking rules shared by all targets of this tree.
find_package(Threads REQUIRED)
# GCC 12 sees overlapping copies in std::string that are not there.
add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor> -Wno-restrict)
add_compile_options(-Wall -Wextra -Wpedantic -Wshadow -Wcast-align
                    -Wno-psabi # vector arguments: never passed across objects built with different flags
                    -Wconversion -Wno-sign-conversion)
if(SWITCHYARD_WERROR)
  add_compile_options(-Werror)
endif()
# Results are defined bit by bit: a*b+c is fused only where the code says so.
add_compile_options(-ffp-contract=off)
if(SWITCHYARD_SANITIZE)
  add_compile_options(-fsanitize=${SWITCHYARD_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${SWITCHYARD_SANITIZE})
  # In instrumented code GCC 12 takes std::regex's members for uninitialised.
  add_compile_options(-Wno-maybe-uninitialized)
  if(SWITCHYARD_SANITIZE MATCHES thread)
    add_compile_definitions(SWITCHYARD_TSAN=1)
  endif()
endif()
find_program(SWITCHYARD_CCACHE ccache)
if(SWITCHYARD_CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${SWITCHYARD_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${SWITCHYARD_CCACHE})
endif()
