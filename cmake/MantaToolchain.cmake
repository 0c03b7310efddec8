# Compiler, linker and cache settings that hold for every target.

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)

# -fPIC everywhere, executables too (not -fPIE): one precompiled header then serves all targets.
set(CMAKE_POSITION_INDEPENDENT_CODE OFF)
add_compile_options(-fPIC)

# Release keeps line tables and frame pointers, so that perf and core dumps stay readable.
# NDEBUG is for what libraries check in their headers: absl's tables at every look-up, pybind11 the
# GIL at every reference count. Our own checks (MANTA_CHECK) do not depend on it.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")
if(NOT MANTA_SANITIZE)
  string(APPEND CMAKE_CXX_FLAGS_RELEASE " -DNDEBUG")
endif()
set(CMAKE_CXX_FLAGS_DEBUG "-O0 -g")
add_compile_options(-fno-omit-frame-pointer -pthread)

if(MANTA_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined)
  add_link_options(-fsanitize=address,undefined)
elseif(MANTA_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread)
  add_link_options(-fsanitize=thread)
elseif(MANTA_SANITIZE)
  message(FATAL_ERROR "MANTA_SANITIZE must be empty, address or thread, not ${MANTA_SANITIZE}")
endif()

# Drop what nothing refers to: a library listed by CMake's transitive rules but not used must not
# become a dependency of the Python module (import time, safety of fork).
add_link_options(-Wl,--as-needed -pthread)
# The same for functions: what is never called is not mapped.
add_compile_options(-ffunction-sections -fdata-sections)
add_link_options(-Wl,--gc-sections)
find_program(MANTA_MOLD NAMES mold)
find_program(MANTA_LLD NAMES ld.lld lld)
mark_as_advanced(MANTA_MOLD MANTA_LLD)
if(MANTA_MOLD)
  add_link_options(-fuse-ld=mold)
elseif(MANTA_LLD)
  add_link_options(-fuse-ld=lld)
endif()

find_program(MANTA_CCACHE NAMES ccache)
mark_as_advanced(MANTA_CCACHE)
if(MANTA_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # The sloppiness is what ccache asks for with precompiled headers.
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CMAKE_COMMAND}" -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      "CCACHE_BASEDIR=${CMAKE_SOURCE_DIR}" CCACHE_NOHASHDIR=1 "${MANTA_CCACHE}")
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    add_compile_options(-fpch-preprocess)
  endif()
endif()

# Warnings for our own code: linked by every layer, test and benchmark, not by generated code.
add_library(manta_warnings INTERFACE)
target_compile_options(manta_warnings INTERFACE
  -Wall -Wextra -Wnon-virtual-dtor -Woverloaded-virtual -Wvla
  # {.a = 1} leaves the other members at their defaults on purpose.
  -Wno-missing-field-initializers)
if(MANTA_WERROR)
  target_compile_options(manta_warnings INTERFACE -Werror)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 reports these falsely for inlined standard containers.
  target_compile_options(manta_warnings INTERFACE
    -Wno-restrict -Wno-error=maybe-uninitialized -Wno-error=array-bounds
    -Wno-error=stringop-overflow -Wno-error=stringop-overread -Wno-error=dangling-pointer
    -Wno-error=free-nonheap-object)
  if(MANTA_SANITIZE STREQUAL "thread")
    target_compile_options(manta_warnings INTERFACE -Wno-tsan)  # atomic_thread_fence
  endif()
elseif(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  target_compile_options(manta_warnings INTERFACE
    -Wthread-safety -Werror=thread-safety -Wno-unused-command-line-argument)
endif()
