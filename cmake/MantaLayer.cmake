# Layers, binaries and tests. See ARCHITECTURE.md for what each layer holds.
#
# manta_layer(<name> [CLIENT] [DEPS ...] [CLIENT_DEPS ...])
#   Library manta_<name> from the *.cc of the calling folder and below; files named
#   *main.cc (binaries), *_testutil.cc (test help) and, with CLIENT, <name>_client*.cc stay out.
#   CLIENT: those client files become manta_<name>_client, for the layers above that talk to
#   this layer's program and must not link its server side.
# manta_binary(<name> MAIN <file> DEPS <targets>)
#   A program of the wheel, installed to ray/bin. Skipped while MAIN does not exist.
# manta_test(<name> DEPS <targets> SOURCES <files>)
#   One GoogleTest binary, registered with ctest as one test.

set(MANTA_INCLUDE_ROOT "${CMAKE_SOURCE_DIR}/cpp")

add_library(manta_abseil INTERFACE)
target_link_libraries(manta_abseil INTERFACE
  absl::any_invocable absl::base absl::bits absl::btree absl::cleanup absl::core_headers
  absl::fixed_array absl::flat_hash_map absl::flat_hash_set absl::function_ref absl::hash
  absl::inlined_vector absl::int128 absl::memory absl::node_hash_map absl::node_hash_set
  absl::random_random absl::span absl::status absl::statusor absl::str_format absl::strings
  absl::symbolize absl::stacktrace absl::failure_signal_handler absl::synchronization
  absl::time Threads::Threads)

if(MANTA_SANITIZE STREQUAL "thread")
  set(wrappers "${CMAKE_SOURCE_DIR}/cmake/tsan_abseil.cc")
  add_library(manta_tsan_abseil STATIC "${wrappers}")
  target_link_libraries(manta_tsan_abseil PUBLIC absl::synchronization absl::time)
  file(STRINGS "${wrappers}" lines REGEX "^MANTA_WRAP")
  foreach(line IN LISTS lines)
    string(REGEX MATCH "_ZN[A-Za-z0-9_]+" symbol "${line}")
    target_link_options(manta_tsan_abseil INTERFACE "LINKER:--wrap=${symbol}")
  endforeach()
  target_link_libraries(manta_abseil INTERFACE manta_tsan_abseil)
endif()

# The precompiled headers: one for all layers, one for all tests. GCC and Clang require the same
# flags where they are used, which holds because flags are set globally.
function(_manta_pch_holder target header)
  set(stub "${CMAKE_BINARY_DIR}/pch/${target}.cc")
  if(NOT EXISTS "${stub}")
    file(WRITE "${stub}" "// Holds a precompiled header.\n")
  endif()
  add_library(${target} OBJECT EXCLUDE_FROM_ALL "${stub}")
  target_link_libraries(${target} PRIVATE manta_warnings manta_abseil ${ARGN})
  target_precompile_headers(${target} PRIVATE "${header}")
endfunction()

if(MANTA_PCH)
  _manta_pch_holder(manta_pch "${CMAKE_SOURCE_DIR}/cmake/pch.h")
  if(MANTA_BUILD_TESTS)
    _manta_pch_holder(manta_pch_test "${CMAKE_SOURCE_DIR}/cmake/pch_test.h" GTest::gmock)
  endif()
endif()

function(_manta_library target sources)
  if(NOT sources)
    add_library(${target} INTERFACE)
    target_include_directories(${target} INTERFACE "${MANTA_INCLUDE_ROOT}")
    target_link_libraries(${target} INTERFACE ${ARGN})
    return()
  endif()
  add_library(${target} STATIC ${sources})
  target_include_directories(${target} PUBLIC "${MANTA_INCLUDE_ROOT}")
  target_link_libraries(${target} PUBLIC ${ARGN} PRIVATE manta_warnings)
  if(MANTA_PCH)
    target_precompile_headers(${target} REUSE_FROM manta_pch)
  endif()
endfunction()

function(manta_layer name)
  cmake_parse_arguments(ARG "CLIENT" "" "DEPS;CLIENT_DEPS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.cc")
  list(FILTER sources EXCLUDE REGEX "main\\.cc$|_testutil\\.cc$")
  set(client_target)
  if(ARG_CLIENT)
    set(client_sources ${sources})
    list(FILTER client_sources INCLUDE REGEX "/${name}_client[^/]*\\.cc$")
    list(FILTER sources EXCLUDE REGEX "/${name}_client[^/]*\\.cc$")
    _manta_library(manta_${name}_client "${client_sources}" ${ARG_CLIENT_DEPS})
  endif()
  _manta_library(manta_${name} "${sources}" ${ARG_DEPS})
endfunction()

function(manta_binary name)
  cmake_parse_arguments(ARG "" "MAIN" "DEPS" ${ARGN})
  file(GLOB main CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${ARG_MAIN}")
  if(NOT main)
    return()
  endif()
  add_executable(${name} "${main}")
  target_link_libraries(${name} PRIVATE
    ${ARG_DEPS} absl::flags absl::flags_parse absl::flags_usage manta_warnings)
  if(MANTA_PCH)
    target_precompile_headers(${name} REUSE_FROM manta_pch)
  endif()
  install(TARGETS ${name} RUNTIME DESTINATION ray/bin COMPONENT python)
  add_dependencies(manta_package ${name})
endfunction()

function(manta_test name)
  cmake_parse_arguments(ARG "" "" "DEPS;SOURCES" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  # The tests' own root, so that one folder can offer help to another ("tests/cpp/...").
  target_include_directories(${name} PRIVATE "${CMAKE_SOURCE_DIR}")
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} manta_warnings GTest::gmock_main GTest::gmock)
  if(MANTA_PCH)
    target_precompile_headers(${name} REUSE_FROM manta_pch_test)
  endif()
  add_test(NAME ${name} COMMAND ${name} --gtest_brief=1)
  set_tests_properties(${name} PROPERTIES
    TIMEOUT 300
    ENVIRONMENT "MANTA_SOURCE_DIR=${CMAKE_SOURCE_DIR};MANTA_BUILD_DIR=${CMAKE_BINARY_DIR};TSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/cmake/tsan_suppressions.txt")
endfunction()
