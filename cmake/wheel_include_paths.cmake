# For ROS wheels only: put right include paths that CMake would refuse. A stock ROS never loads this file.
#
# 1. The exported targets of the message wheels name the Python and NumPy headers of the machine that built them;
#    CMake refuses imported targets with paths that do not exist, so these are dropped.
# 2. Our own targets get the headers of the virtual environment. Where that lies in the source tree (.venv), CMake
#    refuses to export them, so they are marked as needed for the build alone.
#
# Passed as CMAKE_PROJECT_<name>_INCLUDE, it acts at the end of the project's CMakeLists.txt; needs CMake 3.19.
function(_wheel_include_paths)
  get_property(imported DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS imported)
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

  get_property(own DIRECTORY PROPERTY BUILDSYSTEM_TARGETS)
  foreach(target IN LISTS own)
    get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(directories)
      set(marked "")
      foreach(directory IN LISTS directories)
        string(FIND "${directory}" "${CMAKE_SOURCE_DIR}/" position)
        if(position EQUAL 0)
          set(directory "$<BUILD_INTERFACE:${directory}>")
        endif()
        list(APPEND marked "${directory}")
      endforeach()
      set_property(TARGET ${target} PROPERTY INTERFACE_INCLUDE_DIRECTORIES "${marked}")
    endif()
  endforeach()
endfunction()
cmake_language(DEFER CALL _wheel_include_paths)
