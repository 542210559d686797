# SPDX-License-Identifier: MIT
# RDY_SANITIZE=address|thread, for everything that links rdy.
add_library(rdy_sanitize INTERFACE)
if(RDY_SANITIZE STREQUAL "address")
  set(flags -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
elseif(RDY_SANITIZE STREQUAL "thread")
  set(flags -fsanitize=thread -fno-omit-frame-pointer -g)
elseif(NOT RDY_SANITIZE STREQUAL "")
  message(FATAL_ERROR "RDY_SANITIZE is '${RDY_SANITIZE}': use address, thread, or leave it empty")
endif()
target_compile_options(rdy_sanitize INTERFACE ${flags})
target_link_options(rdy_sanitize INTERFACE ${flags})
