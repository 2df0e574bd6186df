#!/usr/bin/env bash
# Train under Slurm: [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS='...' PORT=29500] \
#     tools/slurm_train.sh PARTITION JOB_NAME CONFIG [options of train.py]
set -euo pipefail

if (( $# < 3 )); then
    echo "usage: $0 PARTITION JOB_NAME CONFIG [options of train.py]" >&2
    exit 2
fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
if [[ -n ${PORT:-} ]]; then
    export MASTER_PORT=$PORT
fi

gpus=${GPUS:-4}
per_node=${GPUS_PER_NODE:-$(( gpus < 4 ? gpus : 4 ))}
read -ra srun_args <<< "${SRUN_ARGS:-}"
exec srun --partition="$1" --job-name="$2" --gres="gpu:$per_node" --ntasks="$gpus" \
    --ntasks-per-node="$per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 \
    ${srun_args[@]+"${srun_args[@]}"} \
    "${PYTHON:-python}" -u "$root/tools/train.py" "$3" --launcher slurm "${@:4}"
