"""How XLA compiles in tests, where programs run for milliseconds and compile for seconds.

Not at level 0: with it, jax 0.10 computes wrong second derivatives of XLA's own convolution. XLA's
older emitters compile in two thirds of the time. What users get is what quickstart.sh and docs.sh
run.
"""

QUICK = (
    "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false"
)
