#!/usr/bin/env bash
# Train with N processes: tools/dist_train.sh CONFIG N [options of train.py]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT on each. Without a GPU the processes
# talk over gloo.
set -euo pipefail

if (( $# < 2 )); then
    echo "usage: $0 CONFIG N [options of train.py]" >&2
    exit 2
fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

if [[ ${NNODES:-1} == 1 && -z ${PORT:-} && -z ${MASTER_ADDR:-} ]]; then
    rendezvous=(--standalone)  # a free port, so that two runs on one machine do not meet
else
    rendezvous=(--nnodes "${NNODES:-1}" --node_rank "${NODE_RANK:-0}"
                --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "${PORT:-29500}")
fi
# torchrun would let a restarted run find the addresses that the one before left in its store
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=${TORCH_DISABLE_SHARE_RDZV_TCP_STORE:-1}
exec "${PYTHON:-python}" -m torch.distributed.run "${rendezvous[@]}" --nproc_per_node "$2" \
    "$root/tools/train.py" "$1" --launcher pytorch "${@:3}"
