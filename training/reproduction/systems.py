"""What is reproduced: the rows of the paper's Tables 1 and 2, and the sets of images that stand for its own.

Two independent U-Nets are a row, too; section 4.1 gives no figures of them.
"""

from __future__ import annotations

from typing import NamedTuple

SETS = ("usiigaci", "endothelium")


class System(NamedTuple):
    """One row.

    Attributes
    ----------
    name, title : str
        In options and files; in tables.
    architecture, schedule : str
        See `ModelConfig` and `TrainConfig`.
    paper : tuple of float
        The paper's DSC and CDS, then both after post-processing; empty where it gives none.
    """

    name: str
    title: str
    architecture: str
    schedule: str
    paper: tuple[float, ...] = ()


SYSTEMS = {
    system.name: system
    for system in (
        System("unet", "U-Net", "unet", "cumulative", (0.841, 0.699, 0.842, 0.704)),
        System("cumulative-deepsplit", "Cumulative DeepSplit", "deepsplit", "cumulative", (0.911, 0.903, 0.911, 0.903)),
        System(
            "cumulative-branch-net", "Cumulative Branch-Net", "branch_net", "cumulative", (0.878, 0.886, 0.881, 0.890)
        ),
        System(
            "cumulative-double-unet",
            "Cumulative Double-U-Net",
            "double_unet",
            "cumulative",
            (0.903, 0.895, 0.903, 0.895),
        ),
        System(
            "simultaneous-deepsplit",
            "Simultaneous DeepSplit",
            "deepsplit",
            "simultaneous",
            (0.805, 0.748, 0.812, 0.770),
        ),
        System(
            "simultaneous-branch-net",
            "Simultaneous Branch-Net",
            "branch_net",
            "simultaneous",
            (0.688, 0.702, 0.689, 0.706),
        ),
        System(
            "simultaneous-double-unet",
            "Simultaneous Double-U-Net",
            "double_unet",
            "simultaneous",
            (0.796, 0.720, 0.802, 0.742),
        ),
        System("two-unets", "Two independent U-Nets", "unet", "cumulative"),
    )
}
