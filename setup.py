"""Packaging: the folders laid out as S3PRL's own tree go below the package's name."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
BESIDE = ("downstream", "upstream_expert", "configs")

packages = find_packages(include=["s3prl_vqpool", "s3prl_vqpool.*"])
package_dir = {"s3prl_vqpool": "s3prl_vqpool"}
for folder in BESIDE:
    names = [folder, *(f"{folder}.{name}" for name in find_packages(folder))]
    packages += [f"s3prl_vqpool.{name}" for name in names]
    package_dir.update({f"s3prl_vqpool.{name}": name.replace(".", "/") for name in names})

setup(
    name="s3prl-vqpool",
    version=re.search(r'__version__ = "(.+)"', (ROOT / "s3prl_vqpool/__init__.py").read_text())[1],
    description="Vector-quantization pooling (arXiv 2304.03940) for S3PRL and SUPERB",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=packages,
    package_dir=package_dir,
    package_data={"": ["*.yaml", "*.safetensors", "*.json"]},
    install_requires=[
        "s3prl==0.4.18",
        "torch>=2.5",
        "torchaudio>=2.5",
        "numpy",
        "pyyaml",
        "soundfile",
        "soxr",
        "safetensors",
        "tensorboardX",
        "huggingface_hub",
        "transformers",
        "tqdm",
        "rich",
    ],
    extras_require={
        "demo": ["espeakng-loader"],
        "test": [
            *("espeakng-loader", "hypothesis", "kaldiio", "mypy", "pandas", "pytest", "ruff", "scikit-learn"),
            "types-PyYAML",
        ],
        "kmeans": ["scikit-learn"],
        "ark": ["kaldiio"],
        "fairseq": ["fairseq"],
    },
    entry_points={
        "console_scripts": [
            "run_downstream.py = s3prl_vqpool.runner.run_downstream:main",
            "vqpool = s3prl_vqpool.cli.main:main",
        ]
    },
)
