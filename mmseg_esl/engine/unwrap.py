"""The model inside what mmengine trains."""
from mmengine.model import is_model_wrapper


def unwrap(model):
    """The method (or segmentor) inside DistributedDataParallel, or the model itself."""
    return model.module if is_model_wrapper(model) else model


def networks_of(model) -> dict:
    """``{name: module}`` of a method's networks; a plain segmentor is one, named ''."""
    return model.named() if hasattr(model, 'named') else {'': model}
