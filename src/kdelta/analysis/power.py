# SPDX-License-Identifier: GPL-2.0-only
"""How likely a verdict is, before it is known: for the noise floor and for planning.

A verdict depends on the mean and on the spread that an experiment happens to find. Both are
random, so both are integrated over. The true spread is known from a few blocks only, as a
rule; then the distributions are the predictive ones (normal model, reference prior
1/sigma): with s0 the known standard deviation on d degrees of freedom, the one found in n new
blocks follows s^2 / s0^2 ~ F(n-1, d), and given s the mean follows Student's t on d + n - 1
degrees of freedom around the true effect, scaled by the two spreads pooled. Without a margin
this makes the mean power over experiments exactly what is asked for, whatever the true
spread is, since only the ratio of effect to spread counts. (Geisser, Predictive Inference,
1993, chapter 2, on predictive distributions of normal samples.)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from kdelta.analysis.inference import Floats

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(128)


@dataclass(frozen=True)
class Spread:
    """Spread of log ratios over blocks.

    Attributes:
        log_sd: standard deviation, not negative.
        df: degrees of freedom that it is known on; infinite if taken as exact.
    """

    log_sd: float
    df: float = math.inf


@dataclass(frozen=True)
class Design:
    """What decides on a verdict besides the data.

    Attributes:
        blocks: at least 2.
        cells: tests in the family; Holm's strictest level is (1 - confidence) / cells.
        confidence: of the intervals; 1 - confidence is the level of the family.
        margin: m of the equivalence range [1/(1+m), 1+m]; 0 for none.
    """

    blocks: int
    cells: int
    confidence: float
    margin: float

    @property
    def _df(self) -> int:
        return self.blocks - 1

    @property
    def t_interval(self) -> float:
        """Half width of an interval, in standard errors."""
        return float(stats.t.isf((1 - self.confidence) / 2, self._df))

    @property
    def t_strictest(self) -> float:
        """Where the t test rejects at Holm's strictest level, in standard errors."""
        return float(stats.t.isf((1 - self.confidence) / self.cells / 2, self._df))

    @property
    def log_margin(self) -> float:
        """The margin of equivalence as a log ratio."""
        return math.log1p(self.margin)


def pooled_spread(log_sds: Floats, blocks: Floats) -> Spread:
    """One spread of many cells' spreads.

    Cells share the boots that they were measured in, so more cells do not make the spread
    much better known than one does: its degrees of freedom are those of the cell with the
    fewest blocks. That is exact if boots are all that differs, and on the safe side else.

    Args:
        log_sds: standard deviations of log ratios, shape (cells,).
        blocks: how many ratios each rests on (degrees of freedom + 1), shape (cells,), above 1.
    """
    df = np.asarray(blocks) - 1
    variance = np.average(np.asarray(log_sds) ** 2, weights=df)
    return Spread(math.sqrt(variance), float(df.min()))


def chance_of_different(effect: float, spread: Spread, design: Design) -> float:
    """Probability that one cell is called faster (or slower), its true effect being that.

    Called so at Holm's strictest level, in the right direction, and with an interval that is
    not wholly within the margin of equivalence (that verdict goes first): the mean has to lie
    above both t_strictest x e and log margin - t_interval x e, e being the standard error.

    Args:
        effect: true log ratio, not negative; the case of a negative one is its mirror image.
        spread: of log ratios over blocks.
        design: blocks, family, levels.
    """
    strict, plain, margin = design.t_strictest, design.t_interval, design.log_margin
    if spread.log_sd == 0:
        return float(effect > margin)

    def chance(error: Floats, scale: Floats, df: float) -> Floats:
        least = np.maximum(strict * error, margin - plain * error)
        return np.asarray(stats.t.sf((least - effect) / scale, df))

    kink = margin / (strict + plain)
    return _expected(chance, spread, design, (0.0, kink, math.inf))


def chance_of_equivalent(effect: float, spread: Spread, design: Design) -> float:
    """Probability that the interval of one cell lies wholly within the margin of equivalence.

    Args:
        effect: true log ratio.
        spread: of log ratios over blocks.
        design: blocks, levels, margin.
    """
    plain, margin = design.t_interval, design.log_margin
    if spread.log_sd == 0:
        return float(abs(effect) <= margin)

    def chance(error: Floats, scale: Floats, df: float) -> Floats:
        room = margin - plain * error
        above = stats.t.sf((-room - effect) / scale, df)
        return np.asarray(above - stats.t.sf((room - effect) / scale, df))

    return _expected(chance, spread, design, (0.0, margin / plain))


def smallest_effect(spread: Spread, design: Design, power: float) -> float:
    """Smallest true log ratio that one cell would be called different at, with this power.

    Args:
        spread: of log ratios over blocks.
        design: blocks, family, levels.
        power: wanted probability, between 0.5 and 1.
    """
    if spread.log_sd == 0:
        return design.log_margin

    def lacking(effect: float) -> float:
        return chance_of_different(effect, spread, design) - power

    high = design.log_margin + spread.log_sd
    while lacking(high) < 0:
        high *= 2
    return float(optimize.brentq(lacking, 0.0, high))


def _expected(
    chance: Callable[[Floats, Floats, float], Floats],
    spread: Spread,
    design: Design,
    errors: tuple[float, ...],
) -> float:
    """Mean of `chance` over the standard errors that an experiment may find.

    Gauss-Legendre over the quantiles of s^2 / s0^2, piece by piece.

    Args:
        chance: of (standard error, scale of the mean, degrees of freedom of the mean).
        spread: known of log ratios over blocks.
        design: number of blocks.
        errors: ascending bounds of the pieces, as standard errors; where `chance` has kinks.
    """
    df, root = design.blocks - 1, math.sqrt(design.blocks)
    known = stats.chi2(df, scale=1 / df) if math.isinf(spread.df) else stats.f(df, spread.df)
    ends = [float(known.cdf((error * root / spread.log_sd) ** 2)) for error in errors]
    total = 0.0
    for low, high in itertools.pairwise(ends):
        if high - low < 1e-12:  # quantiles of what never happens are infinite
            continue
        p = low + (high - low) * (_NODES + 1) / 2
        square = known.ppf(p)  # s^2 / s0^2
        error = spread.log_sd * np.sqrt(square) / root
        together = 1.0 if math.isinf(spread.df) else (spread.df + df * square) / (spread.df + df)
        scale = spread.log_sd * np.sqrt(together * np.ones_like(square)) / root
        total += float((high - low) / 2 * _WEIGHTS @ chance(error, scale, spread.df + df))
    return total
