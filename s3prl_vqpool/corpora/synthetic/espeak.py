"""Speech from espeak-ng. The library comes with PyPI's ``espeakng-loader``."""

from __future__ import annotations

import ctypes
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import soxr

from ...errors import InputError
from ..audio import SAMPLE_RATE

# From espeak-ng's speak_lib.h
_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_CHARACTERS = 1
_UTF8 = 1
_PARAMETERS = {"rate": 1, "volume": 2, "pitch": 3, "range": 4}
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Voice:
    """espeak-ng's name (``en-us+m3``), words per minute, pitch and range (0 .. 100), volume."""

    name: str
    rate: int = 175
    pitch: int = 50
    range: int = 50
    volume: int = 100


class Espeak:
    """A fresh espeak-ng: the same calls in the same order give the same samples.

    The library keeps state in static variables that not even ``espeak_Terminate`` resets, so each object
    loads a copy of its own. The data folder is linked beside it, because espeak-ng accepts paths of up
    to about 150 characters only.

    Raises:
        InputError: ``espeakng-loader`` is not installed, or its data are damaged.
    """

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ModuleNotFoundError as error:
            raise InputError("Synthesising speech needs espeak-ng: pip install espeakng-loader") from error
        self._folder = tempfile.TemporaryDirectory(prefix="espeak-")
        library = shutil.copy(espeakng_loader.get_library_path(), self._folder.name)
        data = Path(self._folder.name, "espeak-ng-data")
        data.symlink_to(espeakng_loader.get_data_path(), target_is_directory=True)
        self._library = ctypes.CDLL(library)
        self._rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), _DONT_EXIT)
        if self._rate <= 0:
            raise InputError(
                f"espeak-ng does not start with the data in {espeakng_loader.get_data_path()}:"
                " pip install --force-reinstall espeakng-loader"
            )
        self._chunks: list[np.ndarray] = []
        self._callback = _Callback(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))

    def __enter__(self) -> Espeak:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._library.espeak_Terminate()
        self._folder.cleanup()

    def say(self, text: str, voice: Voice) -> np.ndarray:
        """``text`` spoken by ``voice``: float32 [samples] at 16 kHz.

        Raises:
            InputError: espeak-ng has no such voice.
        """
        if self._library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise InputError(f"espeak-ng has no voice {voice.name!r}. Expected a name like 'en-us+m3'.")
        for name, number in _PARAMETERS.items():
            self._library.espeak_SetParameter(number, getattr(voice, name), 0)
        self._chunks.clear()
        encoded = text.encode()
        size = ctypes.c_size_t(len(encoded) + 1)
        self._library.espeak_Synth(encoded, size, 0, _CHARACTERS, 0, _UTF8, None, None)
        samples = np.concatenate(self._chunks).astype(np.float32) / 32768
        return soxr.resample(samples, self._rate, SAMPLE_RATE, quality="HQ")

    def _receive(self, samples: Any, count: int, _events: int | None) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0
