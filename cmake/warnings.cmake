# SPDX-License-Identifier: MIT
# The warnings of the house, as an interface target: C files get all of them, C++ the shared ones.
add_library(rdy_warnings INTERFACE)
set(both -Wall -Wextra -Wpedantic -Wshadow -Wcast-qual -Wcast-align -Wpointer-arith -Wundef -Wvla
    -Wformat=2 -Wimplicit-fallthrough -Wnull-dereference -Wwrite-strings)
set(only_c -Wconversion -Wsign-conversion -Wstrict-prototypes -Wmissing-prototypes -Wswitch-enum)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
  list(APPEND only_c -Wlogical-op -Wduplicated-cond -Wduplicated-branches)
else()
  list(APPEND only_c -Wthread-safety -Wcomma -Wunreachable-code-aggressive -Wassign-enum)
endif()
if(RDY_WERROR)
  list(APPEND both -Werror)
endif()
target_compile_options(rdy_warnings INTERFACE ${both} "$<$<COMPILE_LANGUAGE:C>:${only_c}>")
