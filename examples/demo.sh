#!/usr/bin/env bash
# The main job in a few minutes on a CPU: bash examples/demo.sh OUT [FOLDER]
# Without FOLDER (which has images/ and masks/) it works on images drawn by examples/draw_images.py.
set -euo pipefail
out=${1:?"usage: bash examples/demo.sh OUT [FOLDER]"}
here=$(cd "$(dirname "$0")" && pwd)
folder=${2:-$out/drawn}
if [ -z "${2:-}" ]; then
    python3 "$here/draw_images.py" "$folder"
    export PREPARE=${PREPARE:-'--labeled 0.05 --val 0.1 --test 0.2 --groups ^(p\d+) --classes growth'}
fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} SIZE=${SIZE:-96} ENCODER=${ENCODER:-tu-mobilenetv3_small_100} DECODER=${DECODER:-48,32,16,12,8}
export ITERATIONS=${ITERATIONS:-240} FINETUNE_ITERATIONS=${FINETUNE_ITERATIONS:-160} LR=${LR:-4e-3}
export ADAPT=${ADAPT---all --iterations 30 --overlays 0}
bash "$here/pipeline.sh" "$folder" "$out"
data=$out/dataset
[ -e "$folder/manifest.csv" ] && data=$folder
python3 "$here/before_after.py" "$out" "$data"
evals=()
for arm in warm ${ARMS:-labeled-only self-training once}; do evals+=("$out/eval-$arm"); done
python3 "$here/step.py" "$out" report report "${evals[@]}" --dataset "$data" --out "$out/report.html"
echo "report, to open in a browser:          $out/report.html"
