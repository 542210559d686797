# SPDX-License-Identifier: MIT
# RDY_SANITIZE=address|thread|memory|valgrind|coverage|fuzzer, for everything that links rdy.
add_library(rdy_sanitize INTERFACE)
if(RDY_SANITIZE STREQUAL "address")
  set(flags -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
elseif(RDY_SANITIZE STREQUAL "thread")
  set(flags -fsanitize=thread -fno-omit-frame-pointer -g)
elseif(RDY_SANITIZE STREQUAL "memory")
  if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "RDY_SANITIZE=memory wants clang: gcc has no MemorySanitizer")
  endif()
  set(flags -fsanitize=memory -fsanitize-memory-track-origins -fno-omit-frame-pointer -g)
elseif(RDY_SANITIZE STREQUAL "valgrind")
  # A build that talks to Valgrind (engine/poison.h) and whose tests ctest runs under it.
  find_program(VALGRIND valgrind REQUIRED)
  set(flags -DRDY_VALGRIND -fno-omit-frame-pointer -g)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${VALGRIND} --quiet --fair-sched=yes --error-exitcode=99
      --leak-check=full --errors-for-leak-kinds=definite --show-leak-kinds=definite
      --num-callers=30)
elseif(RDY_SANITIZE STREQUAL "fuzzer")
  set(flags -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all
    -fno-omit-frame-pointer -g)
elseif(RDY_SANITIZE STREQUAL "coverage")
  # Counted by several threads; and each function by itself, so that its lines stay its own.
  set(flags --coverage -fprofile-update=atomic -fno-inline -g)
elseif(NOT RDY_SANITIZE STREQUAL "")
  message(FATAL_ERROR "RDY_SANITIZE is '${RDY_SANITIZE}': use address, thread, memory, valgrind, "
    "coverage or fuzzer, or leave it empty")
endif()
target_compile_options(rdy_sanitize INTERFACE ${flags})
target_compile_definitions(rdy_sanitize INTERFACE
                           $<$<STREQUAL:${RDY_SANITIZE},coverage>:RDY_COVERAGE>)
target_link_options(rdy_sanitize INTERFACE ${flags})
