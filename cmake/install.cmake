# SPDX-License-Identifier: MIT
# Installs the library, its headers, rdy.pc for pkg-config and rdyConfig.cmake for CMake.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(RDY_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/rdy)

install(TARGETS rdy EXPORT rdyTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/rdy DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(EXPORT rdyTargets NAMESPACE rdy:: DESTINATION ${RDY_CMAKE_DIR})

if(RDY_URING)
  set(RDY_LIBURING "liburing >= 2.3, ")
endif()
file(RELATIVE_PATH RDY_PREFIX_FROM_PC ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig
     ${CMAKE_INSTALL_PREFIX})
set(RDY_PC_INCLUDEDIR \${prefix}/${CMAKE_INSTALL_INCLUDEDIR})
if(IS_ABSOLUTE ${CMAKE_INSTALL_INCLUDEDIR})
  set(RDY_PC_INCLUDEDIR ${CMAKE_INSTALL_INCLUDEDIR})
endif()
configure_file(cmake/rdy.pc.in rdy.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/rdy.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

configure_file(cmake/rdyConfig.cmake.in rdyConfig.cmake @ONLY)
write_basic_package_version_file(rdyConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/rdyConfig.cmake ${PROJECT_BINARY_DIR}/rdyConfigVersion.cmake
        DESTINATION ${RDY_CMAKE_DIR})
