"""Optional colour changes of the strong view. The paper's strong view is CutMix alone."""
from __future__ import annotations

from mmseg.registry import MODELS
from torch import Tensor, nn

from .views import check_rgb


@MODELS.register_module()
class KorniaStrongView(nn.Module):
    """Colour jitter, grey and blur of a batch, by kornia (our option; off by default).

    Geometry is untouched, so that labels and masks stay in place.

    Args:
        jitter: brightness, contrast, saturation, hue ranges as kornia's ColorJiggle takes them.
        jitter_prob, grey_prob, blur_prob: per image.
        blur_kernel: odd kernel size in pixels.
        blur_sigma: range of the blur's standard deviation in pixels.

    Raises:
        ImportError: kornia is not installed.
    """

    def __init__(self, jitter=(0.5, 0.5, 0.5, 0.25), jitter_prob: float = 0.8,
                 grey_prob: float = 0.2, blur_prob: float = 0.5, blur_kernel: int = 9,
                 blur_sigma=(0.1, 2.0)):
        super().__init__()
        try:
            import kornia.augmentation as K
        except ImportError as error:
            raise ImportError('KorniaStrongView needs kornia: pip install "mmseg_esl[strong]", or '
                              'remove strong_view from the model config') from error
        self.augment = K.AugmentationSequential(
            K.ColorJiggle(*jitter, p=jitter_prob),
            K.RandomGrayscale(p=grey_prob),
            K.RandomGaussianBlur((blur_kernel, blur_kernel), tuple(blur_sigma), p=blur_prob),
            data_keys=['input'])

    def _apply(self, *args, **kwargs):
        """kornia stays on the CPU, where it reads the numbers that it draws: drawn on a GPU it
        would wait for them. It copies them to the images' device without waiting, from 0.9 on."""
        return self

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` RGB in [0, 1] -> the same shape and range.

        Raises:
            ValueError: other channels.
        """
        check_rgb(self, images)
        return self.augment(images.clamp(0, 1)).clamp(0, 1)
