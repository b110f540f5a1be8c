"""The one module that opens NetCDF files. Everything else speaks variables by name, arrays and their dimensions.

NetCDF-4 files are HDF5 files. Values come with NaN where the file says that nothing was measured; whole numbers come as
they are stored where none is missing. Files appear whole or not at all. What attributes mean is said by the CF conventions
(1.11, sections 2.5.1 and 8.1) and, of ``_Unsigned``, by the NetCDF Users Guide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import h5netcdf
import h5py
import numpy as np
from numpy.typing import NDArray

from swath.errors import RasterError
from swath.files import atomic_write, files_below

SUFFIXES = (".nc", ".nc4")
HDF_FAILURES = (OSError, RuntimeError, KeyError, ValueError, h5netcdf.CompatibilityError)


@dataclass(frozen=True, kw_only=True)
class Variable:
    """One variable to write: names of its dimensions, values, attributes, and the value that means no measurement."""

    dims: Sequence[str]
    data: NDArray[Any]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    fill: float | None = None


class NetcdfReader:
    """A NetCDF-4 file that is open for the length of a block. Raises RasterError when it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: Any = None
        self._hdf5: Any = None

    def __enter__(self) -> NetcdfReader:
        if not self.path.is_file():
            raise RasterError(f"{self.path}: no such file")
        with self._guard():
            self._hdf5 = h5py.File(self.path, "r")
        try:
            with self._guard():
                dict(self._hdf5.attrs)  # what is damaged here fails cleanly; in h5netcdf also as it is thrown away
            self._require_own_values()
            with self._guard():
                self._file = h5netcdf.File(self._hdf5, "r")
        except BaseException:
            self._hdf5.close()
            raise
        return self

    def _require_own_values(self) -> None:
        """Raise RasterError for a file that takes values, links or whole variables from other files."""
        foreign: list[str] = []
        seen: set[int] = set()  # groups may hold each other

        def look(group: Any) -> None:
            for name in group:
                link = group.get(name, getlink=True)
                if isinstance(link, h5py.ExternalLink):
                    foreign.append(f"{group.name.rstrip('/')}/{name}: {link.filename}")
                    continue
                item = group.get(name)
                if item is None:
                    raise ValueError(f"{name} cannot be opened")
                place = h5py.h5o.get_info(item.id).addr if isinstance(link, h5py.HardLink) else None
                if isinstance(item, h5py.Group) and place is not None and place not in seen:
                    seen.add(place)
                    look(item)
                elif isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                    foreign.append(item.name)

        with self._guard():
            look(self._hdf5)
        if foreign:
            raise RasterError(
                f"{self.path}: takes values from other files ({', '.join(foreign[:5])}). Write it out first: "
                f"nccopy {self.path.name} whole_{self.path.name}"
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._hdf5.close()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except HDF_FAILURES as error:
            size = self.path.stat().st_size if self.path.is_file() else 0
            raise RasterError(
                f"{self.path}: cannot be read as NetCDF-4 ({size} bytes; {type(error).__name__}: {error}). "
                "It is truncated or of another format: copy or download it again, or take it out of the folder."
            ) from error

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all variables, sorted."""
        return tuple(sorted(self._file.variables))

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the file, texts as str."""
        with self._guard():
            return {name: _plain(value) for name, value in self._file.attrs.items()}

    def variable_attributes(self, name: str) -> dict[str, Any]:
        """Attributes of one variable, texts as str."""
        variable = self._variable(name)
        with self._guard():
            return {key: _plain(value) for key, value in variable.attrs.items()}

    def compression(self, name: str) -> tuple[str | None, int | None]:
        """(filter, level) that a variable is packed with, such as ("gzip", 1), which is what NetCDF calls zlib."""
        variable = self._variable(name)
        return variable.compression, variable.compression_opts

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(int(n) for n in self._variable(name).shape)

    def dims(self, name: str) -> tuple[str, ...]:
        return tuple(self._variable(name).dimensions)

    def read(self, name: str, rows: slice = slice(None)) -> NDArray[Any]:
        """Values of a variable, of some `rows` of its first dimension: NaN where they are missing or outside the valid range.

        Packed values (scale_factor, add_offset) are unpacked, and ``_Unsigned`` ones read as such. Floats and packed values
        are floats; whole numbers stay such where none of those read is missing. Raises RasterError that names file and
        variable, for complex numbers, too.
        """
        variable = self._variable(name)
        with self._guard():
            data = np.asarray(variable[rows])
        if data.dtype.kind in "OSU":
            return data
        if data.dtype.kind not in "biuf":
            raise RasterError(
                f"{self.path}: variable {name!r} holds {data.dtype}, which is no measurement. Take it out of the list."
            )
        about = self.variable_attributes(name)
        if str(about.get("_Unsigned", "")).lower() == "true" and data.dtype.kind == "i":
            data = data.view(data.dtype.str.replace("i", "u"))
        gap = self._missing(data, about, name)
        packed = "scale_factor" in about or "add_offset" in about
        if packed or data.dtype.kind == "f" or gap.any():
            data = data.astype(np.promote_types(data.dtype, np.float32), copy=False)
            if packed:
                data = data * float(about.get("scale_factor", 1)) + float(about.get("add_offset", 0))
            data = np.where(gap, data.dtype.type(np.nan), data) if gap.any() else data
        return data

    def _missing(self, data: NDArray[Any], about: Mapping[str, Any], name: str) -> NDArray[np.bool_]:
        """Which stored values mean no measurement, by the variable's attributes."""
        gap = np.zeros(data.shape, bool)
        try:
            for key in ("_FillValue", "missing_value"):
                for value in np.ravel(about.get(key, [])):
                    gap |= data == _as_stored(value, data.dtype)
            low, high = np.ravel(about.get("valid_range", [None, None]))
            low, high = about.get("valid_min", low), about.get("valid_max", high)
            if low is not None:
                gap |= data < _as_stored(low, data.dtype)
            if high is not None:
                gap |= data > _as_stored(high, data.dtype)
        except (TypeError, ValueError) as error:
            raise RasterError(
                f"{self.path}: variable {name!r}: its attributes of missing values cannot be understood ({error}). Correct them, "
                f"such as with ncatted -a valid_range,{name},d,,"
            ) from error
        return gap

    def texts(self, name: str) -> list[str]:
        """The texts of a variable of one dimension."""
        return [str(_plain(value)) for value in self.read(name).ravel()]

    def _variable(self, name: str) -> Any:
        if name not in self._file.variables:
            raise RasterError(f"{self.path}: no variable {name!r}. It has: {', '.join(self.names) or 'none'}.")
        return self._file.variables[name]


def _as_stored(value: Any, dtype: np.dtype[Any]) -> Any:
    """A number of an attribute as the variable stores it: of unsigned values written as signed ones, too."""
    number = float(value)
    if dtype.kind == "u" and number < 0:
        return number + 2.0 ** (8 * dtype.itemsize)
    return dtype.type(value) if dtype.kind == "f" else number


def _plain(value: Any) -> Any:
    """Numbers and texts as Python's own; HDF5 gives one-element arrays and bytes."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (np.ndarray, np.generic)) and value.size == 1:
        return _plain(value.item())
    return value


def write_netcdf(
    path: Path,
    variables: Iterable[tuple[str, Variable]],
    attributes: Mapping[str, Any] | None = None,
    level: int | None = 1,
) -> None:
    """Write variables one by one, packed with zlib of `level` (None: not), so that an iterator needs one at a time.

    Raises RasterError when the disk is full; nothing is left under that name then. Other errors pass through.
    """
    with atomic_write(path, RasterError) as part, h5netcdf.File(part, "w") as file:
        file.attrs.update(attributes or {})
        for name, variable in variables:
            _write_variable(file, name, variable, level)


def _write_variable(file: Any, name: str, variable: Variable, level: int | None) -> None:
    for dim, size in zip(variable.dims, variable.data.shape, strict=True):
        if dim not in file.dimensions:
            file.dimensions[dim] = size
    text = variable.data.dtype.kind in "OU"
    packing = {} if level is None or text else {"compression": "gzip", "compression_opts": level}
    dtype = h5py.string_dtype() if text else variable.data.dtype
    made = file.create_variable(name, tuple(variable.dims), dtype=dtype, fillvalue=variable.fill, **packing)
    made[...] = variable.data.astype(object) if text else _filled(variable)
    made.attrs.update(variable.attributes)


def _filled(variable: Variable) -> NDArray[Any]:
    if variable.fill is None or not np.issubdtype(variable.data.dtype, np.floating):
        return variable.data
    return np.where(np.isnan(variable.data), variable.data.dtype.type(variable.fill), variable.data)


def find_netcdf(folder: Path) -> list[Path]:
    """NetCDF files directly in `folder`, sorted: folders below it hold other data sets, such as the test scenes."""
    if not folder.is_dir():
        raise RasterError(f"{folder}: no such folder. Set input_path to the folder that holds the scenes.")
    return [path for path in files_below(folder) if path.parent == folder and path.suffix in SUFFIXES]
