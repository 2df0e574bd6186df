"""The estimate of the time left knows that steps grow when unlabelled images begin to count."""
from types import SimpleNamespace

import every
import pytest
import tiny

from mmseg_esl.engine.hooks.time_left_hook import TimeLeftHook, growth

WARM_UP = 4


def seen(model, iteration: int, batch) -> int:
    """Forwards of the encoders in a step, with a backward 3, as hooks see them."""
    found = []

    def count(module, args, out):
        found.append(len(out[-1]) * (3 if out[-1].requires_grad else 1))

    handles = [net.backbone.register_forward_hook(count)
               for net in model.named(plain=True).values()]
    model.iter = iteration
    model.loss(*batch)
    model.after_skipped_step()
    for handle in handles:
        handle.remove()
    return sum(found)


@pytest.mark.parametrize('case', [every.Case(kind) for kind in every.METHODS], ids=repr)
def test_a_step_grows_by_the_forwards_that_are_added(case):
    model, batch = case.build(sharp=1.0, warmup_iters=WARM_UP), tiny.batch(2, 3)
    before, after = (seen(model, iteration, batch) for iteration in (0, WARM_UP))
    assert growth(model, 2, 3) == pytest.approx(after / before)


def test_a_lone_labelled_image_has_company_in_the_warm_up():
    model, batch = tiny.esl(warmup_iters=WARM_UP), tiny.batch(1, 3)
    before, after = (seen(model, iteration, batch) for iteration in (0, WARM_UP))
    assert growth(model, 1, 3) == pytest.approx(after / before)


@pytest.mark.parametrize('begin', [0, 2, WARM_UP, 7])
def test_it_is_the_sum_of_the_iterations_to_come(begin):
    """Waiting for images takes as long as before; what the networks do takes longer."""
    model, last = tiny.esl(warmup_iters=WARM_UP), 10
    forwards = [seen(model, iteration, tiny.batch(2, 3)) for iteration in (0, WARM_UP)]
    takes = [0.5 + 0.1 * forwards[iteration >= WARM_UP] for iteration in range(last)]
    said, now = {}, {}
    hub = SimpleNamespace(get_scalar=lambda key: SimpleNamespace(current=lambda: now[key]),
                          update_info=said.__setitem__)
    runner, hook = SimpleNamespace(max_iters=last, message_hub=hub, val_loop=None,
                                   model=model), TimeLeftHook()
    hook.before_train(runner)
    for runner.iter in range(begin, last):  # a run that is resumed begins later
        now.update({'train/time': takes[runner.iter], 'train/data_time': 0.5})
        hook.after_train_iter(runner, 0, dict(data_samples=tiny.batch(2, 3)[1]))
        assert said['eta'] == pytest.approx(sum(takes[runner.iter + 1:])), runner.iter


def test_a_method_without_unlabelled_images_goes_on_as_it_is():
    assert growth(tiny.method('Supervised'), 2, 3) == 1
    assert growth(tiny.esl('dsl', warmup_iters=WARM_UP), 2, 0) == 1
    # nor are images that nobody looks at company for a lone labelled one
    assert growth(tiny.esl('sup', warmup_iters=WARM_UP), 1, 3) == 1
