#include "compute/cuda/proj.h"
bool cuda_proj_many(const struct run *, const struct dev_proj *, int, struct err *) { return false; }
size_t cuda_proj_many_scratch(const struct backend *, const struct op_call *) { return 0; }
int cuda_lt_open(struct backend *, struct err *e) { return err_set(e, STATUS_NOTFOUND, "no cuBLASLt"); }
void cuda_lt_close(struct backend *) {}
int cuda_peak_gemm(struct backend *, enum dtype, double *tflops, struct err *) { *tflops = 0; return 0; }
