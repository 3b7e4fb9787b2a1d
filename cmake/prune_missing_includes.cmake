# For ROS wheels only: drop include directories that exist on their build machine alone.
#
# The exported targets of the message wheels name the Python and NumPy headers of the machine that built them, and
# CMake refuses imported targets with paths that do not exist. Passed as CMAKE_PROJECT_<name>_INCLUDE, this
# cleans them once the project is read. It needs CMake 3.19 (cmake_language(DEFER)); a stock ROS never loads it.
function(_prune_missing_includes)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(directories)
      set(kept "")
      foreach(directory IN LISTS directories)
        if(NOT IS_ABSOLUTE "${directory}" OR EXISTS "${directory}")
          list(APPEND kept "${directory}")
        endif()
      endforeach()
      set_property(TARGET ${target} PROPERTY INTERFACE_INCLUDE_DIRECTORIES "${kept}")
    endif()
  endforeach()
endfunction()
cmake_language(DEFER CALL _prune_missing_includes)
