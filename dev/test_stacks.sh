#!/usr/bin/env bash
# Train, resume and test a tiny config on each stack that mmseg_esl serves, each in an environment of
# its own under .stacks. Full mmcv is compiled once (some ten minutes) and its wheel kept.
#   dev/test_stacks.sh            all of them
#   STACKS='lite onedl' dev/test_stacks.sh
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
read -ra pip_args <<< "${PIP_ARGS:-}"
read -ra stacks <<< "${STACKS:-lite mmcv onedl}"
base=$PWD/.stacks
wheels=$base/wheels
mkdir -p "$wheels"

# pip of one environment: pip_in NAME ARGUMENTS
pip_in() {
    "$base/$1/bin/python" -m pip "$2" -q ${pip_args[@]+"${pip_args[@]}"} "${@:3}"
}

# the pinned requirements less the packages named by a pattern
requirements_without() {
    grep -Ev "^($1)==" requirements/cpu.txt > "$base/requirements.txt"
}

install_lite() {
    pip_in lite install -r requirements/cpu.txt
}

install_mmcv() {
    # mmcv 2.1.0 does not build with setuptools 80
    requirements_without 'mmcv-lite|setuptools'
    pip_in mmcv install -r "$base/requirements.txt" 'setuptools<80' || return
    if ! compgen -G "$wheels/mmcv-2.1.0-*.whl" > /dev/null; then
        pip_in mmcv wheel --no-build-isolation --no-deps -w "$wheels" mmcv==2.1.0 || return
    fi
    pip_in mmcv install --no-deps "$wheels"/mmcv-2.1.0-*.whl
}

install_onedl() {
    requirements_without 'mmengine|mmcv-lite|mmsegmentation|mmpretrain'
    # onedl-mmcv compiles its operators, always; mmcv-lite serves the forks as well. It asks for a
    # distribution called mmengine, hence no dependencies, and theirs by name.
    pip_in onedl install -r "$base/requirements.txt" addict yapf termcolor prettytable packaging \
        pyyaml einops mat4py modelindex importlib-metadata || return
    pip_in onedl install --no-deps mmcv-lite==2.1.0 onedl-mmengine==0.10.12 \
        onedl-mmsegmentation==1.4.2 onedl-mmpretrain==1.3.6
}

versions() {
    "$base/$1/bin/python" - <<'PYTHON'
from importlib.metadata import distributions

wanted = ('torch', 'mmengine', 'mmcv', 'mmcv-lite', 'mmsegmentation', 'onedl-mmengine',
          'onedl-mmsegmentation')
found = {dist.metadata['Name'].lower().replace('_', '-'): dist.version for dist in distributions()}
print(' '.join(f'{name}=={found[name]}' for name in wanted if name in found))
PYTHON
}

# everything for one stack; what it says goes into its log
try_stack() {
    local name=$1
    "$python" -m venv "$base/$name" && "install_$name" &&
        pip_in "$name" install --no-deps --no-build-isolation -e . || return
    rm -rf "$base/work_$name"
    "$base/$name/bin/python" tests/integration/smoke.py --work-dir "$base/work_$name"
}

status=0
table=''
for name in "${stacks[@]}"; do
    if ! declare -F "install_$name" > /dev/null; then
        echo "unknown stack '$name': choose among lite, mmcv, onedl" >&2
        exit 2
    fi
    echo "$name: installing and testing (log: .stacks/$name.log)"
    if try_stack "$name" > "$base/$name.log" 2>&1; then
        result=pass
    else
        result=FAIL
        status=1
        tail -n 15 "$base/$name.log"
    fi
    table+="| $name | $result | $(versions "$name") |"$'\n'
done
printf '\n| stack | train, resume, test | versions |\n|---|---|---|\n%s' "$table" |
    tee "$base/summary.md"
exit $status
