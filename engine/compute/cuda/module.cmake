# The CUDA backend as a module beside the executables, where nvcc is found: JAEDA_CUDA=AUTO|ON|OFF. Nothing else needs it.
# Each object's register report (ptxas -v) is kept beside it for tests/resources.
set(JAEDA_CUDA AUTO CACHE STRING "build the CUDA backend: AUTO (where nvcc is found), ON, OFF")
set(JAEDA_CUDA_ARCHS 80 86 89 90 CACHE STRING "compute capabilities with code of their own; the last one's PTX serves newer cards")
if(NOT JAEDA_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "JAEDA_CUDA is '${JAEDA_CUDA}': AUTO, ON or OFF")
endif()
if(JAEDA_CUDA STREQUAL "OFF")
  return()
endif()
find_program(JAEDA_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin $ENV{CUDA_PATH}/bin /usr/local/cuda/bin)
if(NOT JAEDA_NVCC)
  if(JAEDA_CUDA STREQUAL "ON")
    message(FATAL_ERROR "JAEDA_CUDA=ON, but no nvcc was found: put it on PATH, set CUDA_HOME, or configure with JAEDA_CUDA=OFF")
  endif()
  message(STATUS "no nvcc here: the CUDA backend is not built")
  return()
endif()
set(nvcc_flags -std=c++17 -O3 -lineinfo -I${CMAKE_SOURCE_DIR}/engine -Werror all-warnings -Xptxas -v
    -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra)
foreach(arch ${JAEDA_CUDA_ARCHS})
  list(APPEND nvcc_flags -gencode arch=compute_${arch},code=sm_${arch})
endforeach()
list(GET JAEDA_CUDA_ARCHS -1 newest)
list(APPEND nvcc_flags -gencode arch=compute_${newest},code=compute_${newest})
set(cuda_dir ${CMAKE_BINARY_DIR}/cuda)
file(MAKE_DIRECTORY ${cuda_dir})
file(GLOB cuda_units CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/engine/compute/cuda/*.cu)
set(cuda_objects)
foreach(source ${cuda_units})
  get_filename_component(unit ${source} NAME_WE)
  add_custom_command(
    OUTPUT ${cuda_dir}/${unit}.o
    COMMAND sh -c "\"$@\" 2>${unit}.resources || { cat ${unit}.resources >&2; exit 1; }" sh ${JAEDA_NVCC} ${nvcc_flags} -MD -MF
            ${cuda_dir}/${unit}.d -c ${source} -o ${cuda_dir}/${unit}.o
    DEPENDS ${source} DEPFILE ${cuda_dir}/${unit}.d
    WORKING_DIRECTORY ${cuda_dir} VERBATIM)
  list(APPEND cuda_objects ${cuda_dir}/${unit}.o)
endforeach()
add_custom_command(
  OUTPUT ${CMAKE_BINARY_DIR}/libjaeda-cuda.so
  COMMAND ${JAEDA_NVCC} -shared -cudart static -Xcompiler -fPIC -o ${CMAKE_BINARY_DIR}/libjaeda-cuda.so ${cuda_objects}
  DEPENDS ${cuda_objects} VERBATIM)
add_custom_target(jaeda-cuda ALL DEPENDS ${CMAKE_BINARY_DIR}/libjaeda-cuda.so)
