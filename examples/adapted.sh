#!/usr/bin/env bash
# What adapting SAM to few labels brings: prompted IoU, and the Dice of the masks that are mined.
#
#     bash examples/adapted.sh FOLDER OUT
#
# FOLDER has images/ and masks/. Compares SAM as it is (plain), adapted to the labeled cases (adapted), and adapted to repair the U-Net++'s
# out-of-fold masks too (repairing, with --model), and the U-Net++'s own masks (self-training). Mines with each, and measures the masks as
# accepted by default, and with everything accepted (the same images for all). What has ended with the same inputs is not run again.
# 40 labeled and 40 validation images of Kvasir-SEG take about 40 minutes on a CPU that does other work at the same time, with
#     SIZE=128 ENCODER=mobilenet_v2 DECODER=48,32,16,12,8 ITERATIONS=500 OMP_NUM_THREADS=1 PRECISION=bf16
: "${SAM:=tiny}" "${SIZE:=256}" "${ENCODER:=resnet34}" "${DECODER:=256,128,64,32,16}" "${ITERATIONS:=2000}" "${FOLDS:=4}"
: "${ADAPT:=--all --iterations 200}" "${PRECISION:=auto}" "${PREPARE:=--labeled 40 --val 40 --test 0.1}"
set -euo pipefail

folder=${1:?"usage: bash examples/adapted.sh FOLDER OUT"}
out=${2:?"usage: bash examples/adapted.sh FOLDER OUT"}
here=$(cd "$(dirname "$0")" && pwd)
data=$out/dataset
weights=(${SAM_CHECKPOINT:+--sam-checkpoint "$SAM_CHECKPOINT"})
read -ra prepare <<<"$PREPARE"
read -ra adapt <<<"$ADAPT"

step() {  # NAME COMMAND...
    echo "== $1" >&2
    python3 "$here/step.py" "$out" "$@"
}

step prepare prepare "$folder/images" --masks "$folder/masks" --out "$data" "${prepare[@]}"
step warm warmstart "$data" --out "$out/warm" --size "$SIZE" --encoder "$ENCODER" --decoder-channels "$DECODER" \
    --iterations "$ITERATIONS" --folds "$FOLDS"
adapt+=(--precision "$PRECISION" ${weights[@]+"${weights[@]}"})
step adapted adapt "$data" --sam "$SAM" --out "$out/adapted.safetensors" "${adapt[@]}"
step repairing adapt "$data" --sam "$SAM" --model "$out/warm" --out "$out/repairing.safetensors" "${adapt[@]}"

accept_all=(--min-confidence 0 --min-predicted-iou 0 --min-stability 0 --min-agreement 0 --min-quality 0 --sam-share 1)
for arm in self-training plain adapted repairing; do
    case $arm in
        self-training) sam=(none) ;;
        plain) sam=("$SAM" ${weights[@]+"${weights[@]}"}) ;;
        *) sam=("$SAM" --sam-checkpoint "$out/$arm.safetensors") ;;
    esac
    for split in val test; do
        [ "$arm" = self-training ] ||
            step "$arm-$split" adapt "$data" --sam "${sam[@]}" --model "$out/warm" --evaluate --split "$split"
    done
    step "mine-$arm" mine "$data" --model "$out/warm" --out "$out/$arm.h5" --sam "${sam[@]}" --embeddings "$out/embeddings-$arm.h5"
    step "eval-$arm" eval "$data" --store "$out/$arm.h5" --out "$out/eval-$arm" --overlays 0
    against=(--against "$out/eval-self-training-all")
    [ "$arm" != self-training ] || against=()
    step "eval-$arm-all" eval "$data" --store "$out/$arm.h5" --out "$out/eval-$arm-all" --overlays 0 "${accept_all[@]}" \
        ${against[@]+"${against[@]}"}
done
python3 "$here/adapted_table.py" "$out"
