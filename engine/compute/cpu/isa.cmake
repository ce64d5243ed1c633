# The CPU kernels are one source compiled once for each instruction set; cpu.c picks one at run time.
file(GLOB isa_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/engine/compute/cpu/isa/*.c)
# What a sanitizer puts into fully inlined kernels takes -O3 minutes a file to optimise again.
set(level -O3)
if(JAEDA_SANITIZE)
  set(level -O1)
endif()
if(JAEDA_FUZZ) # only linked there, never run: minutes of clang for nothing
  list(APPEND level -fno-sanitize=all)
endif()
function(cpu_kernels isa text)
  add_library(jaeda_cpu_${isa} OBJECT EXCLUDE_FROM_ALL ${isa_sources})
  target_include_directories(jaeda_cpu_${isa} PRIVATE ${CMAKE_SOURCE_DIR}/engine)
  target_compile_definitions(jaeda_cpu_${isa} PRIVATE ISA=${isa} ISA_TEXT="${text}")
  # errno and traps of mathematics are never looked at.
  target_compile_options(jaeda_cpu_${isa} PRIVATE ${level} -fno-math-errno -fno-trapping-math ${ARGN})
  target_sources(jaeda_compute PRIVATE $<TARGET_OBJECTS:jaeda_cpu_${isa}>)
endfunction()
cpu_kernels(scalar scalar -ffp-contract=off)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(avx2 -mavx2 -mfma -mf16c -ffp-contract=fast) # ISO C turns contraction off; these kernels live on it
  set(avx512 ${avx2} -mavx512f -mavx512bw -mavx512vl -mavx512dq -mprefer-vector-width=512)
  cpu_kernels(avx2 avx2 ${avx2})
  cpu_kernels(avx512 avx512 ${avx512})
  cpu_kernels(avx512_vnni avx512-vnni ${avx512} -mavx512vnni)
  cpu_kernels(avx512_bf16 avx512-bf16 ${avx512} -mavx512vnni -mavx512bf16)
endif()
