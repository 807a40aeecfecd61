"""Packaging: the folders laid out as S3PRL's own tree go below the package's name."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
URL = "https://github.com/s3prl-vqpool/s3prl-vqpool"
ESPEAK_MACHINES = "x86_64 AMD64 aarch64 arm64 ARM64"  # espeakng-loader has wheels for these
BESIDE = ("downstream", "upstream_expert", "configs")

packages = find_packages(include=["s3prl_vqpool", "s3prl_vqpool.*"])
package_dir = {"s3prl_vqpool": "s3prl_vqpool"}
for folder in BESIDE:
    names = [folder, *(f"{folder}.{name}" for name in find_packages(folder))]
    packages += [f"s3prl_vqpool.{name}" for name in names]
    package_dir.update({f"s3prl_vqpool.{name}": name.replace(".", "/") for name in names})


def long_description() -> str:
    """README with its relative links led to the repository, so that they work on PyPI."""
    text = (ROOT / "README.md").read_text()
    return re.sub(r"\]\((?![a-z]+:|#)", f"]({URL}/blob/main/", text)


setup(
    name="s3prl-vqpool",
    version=re.search(r'__version__ = "(.+)"', (ROOT / "s3prl_vqpool/__init__.py").read_text())[1],
    description="Vector-quantization pooling (arXiv 2304.03940) for S3PRL and SUPERB",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    author="s3prl-vqpool maintainers",
    url=URL,
    project_urls={
        "Source": URL,
        "Documentation": f"{URL}/tree/main/docs",
        "Changelog": f"{URL}/blob/main/CHANGELOG.md",
        "Issues": f"{URL}/issues",
        "Paper": "https://arxiv.org/abs/2304.03940",
    },
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    keywords=["speech", "SUPERB", "S3PRL", "wav2vec 2.0", "pooling", "vector quantization"],
    python_requires=">=3.10",
    packages=packages,
    package_dir=package_dir,
    package_data={"": ["*.yaml", "*.safetensors", "*.json", "*.html", "*.css", "*.js", "py.typed"]},
    # Lower bounds: the older stack of constraints.txt. Upper bounds: the next major release, which nobody has tried.
    install_requires=[
        "s3prl==0.4.18",  # its internals are what this package plugs into
        "torch>=2.5,<3",
        "torchaudio>=2.5,<3",
        "numpy>=1.26,<3",
        "transformers>=4.46,<6",
        "huggingface_hub>=0.25,<3",
        "pyyaml>=6",
        "soundfile>=0.12",
        "soxr>=0.5",
        "safetensors>=0.4.1",
        "tensorboardX>=2.6.2.2",
        "tqdm>=4.66",
        "rich>=13",
        "pandas>=2.3",  # these three: the figures beside every table's accuracies
        "scikit-learn>=1.7",
        "scipy>=1.15",
        f"espeakng-loader>=0.2.4; platform_machine in '{ESPEAK_MACHINES}'",  # for `vqpool synthesise` and `demo`
    ],
    extras_require={
        "test": [
            "editdistance",
            "hypothesis",
            "jinja2",
            "kaldiio",
            "librosa",
            "matplotlib",
            "more-itertools",
            "mypy",
            "pillow",
            "playwright",
            "plotly",
            "pyarrow",
            "pytest",
            "pytest-xdist",
            "ruff",
            "tensorboard",
            "types-PyYAML",
        ],
        "report": ["jinja2", "matplotlib>=3.10", "pillow", "plotly"],  # for `vqpool plot` and `report`
        "docs": ["mkdocs", "mkdocs-material", "mkdocstrings-python"],
        "study": ["matplotlib"],  # for benchmarks/pooling_product.py
        "kmeans": ["scikit-learn"],
        "shrinkage": ["scikit-learn"],
        "table": ["pyarrow"],  # for a corpus in a Parquet file
        "ark": ["kaldiio"],
        "fairseq": ["fairseq"],
        "superb": ["editdistance", "librosa", "more-itertools", "tensorboard"],  # what s3prl.problem imports
    },
    entry_points={
        "console_scripts": [
            "run_downstream.py = s3prl_vqpool.runner.run_downstream:main",
            "vqpool = s3prl_vqpool.cli.main:main",
        ]
    },
)
