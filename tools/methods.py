"""List the methods: names for ``--method``, what a step of each costs, and its networks."""
from __future__ import annotations

import argparse

from cli_common import ready


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    ready()
    import mmseg_esl.register  # noqa: F401 - registers every component
    from mmseg_esl.conversion import Method, methods
    for name in methods():
        method = Method(name)
        costs = zip(*method.model.passes(method.model.parse_cfg(
            method.cfg.get('semi_train_cfg'))).values())
        encoder, _ = (sum(parts) for parts in costs)
        print(f'{name:14} {method.title:26} {encoder:5g} forwards a pair; '
              f'networks: {", ".join(method.networks)}')


if __name__ == '__main__':
    main()
