"""``python -m mmseg_esl COMMAND``; see commands.py."""
from .commands import main

if __name__ == '__main__':
    main(called='python -m mmseg_esl')
