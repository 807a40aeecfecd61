import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]


@pytest.fixture(scope="session")
def real_keywords(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the real speech beside the project as Speech Commands; skips where it is absent."""
    from real_speech import lay_out

    return lay_out(tmp_path_factory.mktemp("real"), "ks")
