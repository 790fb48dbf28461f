"""How the gradient of the outer loop is estimated."""

from jaxmeta.gradients.mean import Gradient, fitting_chunk, mean_gradient

__all__ = ["Gradient", "fitting_chunk", "mean_gradient"]
