"""What was published stock Stable-Baselines3 loads from the hub and plays as it was evaluated; its video is seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from line_project import FRAMES, make_line, train_line
from loopback_hub import running

missing = [name for name in ("huggingface_hub", "imageio", "imageio_ffmpeg") if find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(missing), reason=f"no {', '.join(missing)}: pip install -c constraints.txt -e '.[train,dev,hub]'"
    ),
]
TOKEN = "hf_" + "93f1a7secret"
MODEL = "me/line"
STOCK = """
import json, sys
sys.path.insert(0, sys.argv[1])
import imageio.v2 as imageio
from huggingface_hub import hf_hub_download
from line_that_is_drawn import Line
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

model = PPO.load(hf_hub_download("me/line", "best_model.zip"), device="cpu")
env = DummyVecEnv([lambda: Monitor(Line())])
env = VecNormalize.load(hf_hub_download("me/line", "vecnormalize.pkl"), env)
env.training = env.norm_reward = False
env.seed(1)
frames = imageio.mimread(hf_hub_download("me/line", "replay.mp4"), memtest=False)
print(json.dumps([model.num_timesteps, evaluate_policy(model, env, 3)[0], len(frames), list(frames[0].shape)]))
"""


def test_a_published_model_is_loaded_with_its_statistics_and_plays(tmp_path: Path) -> None:
    project = make_line(tmp_path / "project")
    train_line(project)
    with running(TOKEN) as hub:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "KM_"))}
        environ |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-m", "kaggle_manager.cli", "publish", "line", f"hf://{MODEL}", "--json"]
        sent = subprocess.run(
            command, cwd=project, env={**environ, "HF_TOKEN": TOKEN}, capture_output=True, text=True, check=False
        )
        assert sent.returncode == 0, sent.stderr
        assert TOKEN not in sent.stdout + sent.stderr
        report = json.loads(sent.stdout)
        assert report["no_video"] == "", report
        stock = [sys.executable, "-c", STOCK, str(project)]
        loaded = subprocess.run(stock, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        assert loaded.returncode == 0, loaded.stderr
    step, score, frames, shape = json.loads(loaded.stdout.splitlines()[-1])
    assert step == report["step"]
    assert score <= 0
    assert (frames, shape) == (FRAMES, [32, 64, 3])
