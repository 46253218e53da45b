//! Merging shards into one run.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use logitfuse_core::{Error, ErrorKind, Result};

use crate::{
    Manifest, Run, RunDir, SampleRecord, Scope, Shard,
    files::{open, unreadable},
};

/// Where a line is: the run, and its bytes in that run's log.
struct LineSpan {
    run: usize,
    offset: u64,
    length: usize,
}

/// A sample's place in the order of a run: variant and task, item, repeat.
type Place = (usize, usize, usize);

/// Puts the samples of several directories of the same experiment into one, in the order in which one run would have made
/// them, byte by byte. `metrics.json` is not written: it depends on the tasks.
///
/// It may be repeated, after a kill or with more directories: what the new directory holds already has to be in one of the
/// others, byte by byte, and the result is the same as at one go.
///
/// # Errors
/// [`ErrorKind::Incompatible`] where the directories hold different experiments, two of them hold one sample with different
/// results, or the new directory holds anything else.
pub fn merge(runs: &[Run], into: &Path) -> Result<RunDir> {
    let Some((first, rest)) = runs.split_first() else {
        return Err(
            Error::new(ErrorKind::InvalidConfig, "nothing to merge").with_help("name the directories of the shards")
        );
    };
    let whole =
        |run: &Run| Manifest { scope: Scope { shard: None, ..run.manifest().scope.clone() }, ..run.manifest().clone() };
    let manifest = whole(first);
    for run in rest {
        manifest
            .check_same(first.path().display(), &whole(run), None)
            .map_err(|e| e.context(format!("{} cannot join", run.path().display())))?;
    }
    let cells: BTreeMap<(&str, &str), usize> =
        manifest.cells.iter().enumerate().map(|(i, cell)| ((&*cell.variant, &*cell.task), i)).collect();
    let mut samples: BTreeMap<Place, (String, LineSpan)> = BTreeMap::new();
    let mut timings: BTreeMap<String, LineSpan> = BTreeMap::new();
    let mut files = Files::open(runs)?;
    for (run, dir) in runs.iter().enumerate() {
        for line in dir.sample_lines()? {
            let line = line?;
            let sample = line.value;
            let key = sample.key();
            let at = place(&cells, &sample, dir)?;
            let span = LineSpan { run, offset: line.offset, length: line.bytes.len() };
            match samples.get(&at) {
                None => drop(samples.insert(at, (key, span))),
                Some((_, known)) if files.samples(known)? == line.bytes => {}
                Some((_, known)) => {
                    let other = runs[known.run].path().display();
                    let message = format!("{}: sample {key} differs from that in {other}", dir.path().display());
                    return Err(Error::new(ErrorKind::Incompatible, message)
                        .with_help("`logitfuse verify DIR` tells which of the two can be made again"));
                }
            }
        }
        for line in dir.timing_lines()? {
            let line = line?;
            timings.insert(line.value.key, LineSpan { run, offset: line.offset, length: line.bytes.len() });
        }
    }
    if let Some(run) = runs.iter().find(|run| same_directory(run.path(), into)) {
        let message = format!("{}: is one of the directories to join", run.path().display());
        return Err(Error::new(ErrorKind::InvalidConfig, message).with_help("name another directory with `-o`"));
    }
    let mut merged = RunDir::start(into, &first.resolved()?, &manifest)?;
    let kept = kept(&merged, &cells, &samples, &timings, &mut files)?;
    if kept < samples.len() {
        // Figures of what it holds now would pass for those of what it will hold.
        merged.remove_metrics()?;
        merged.keep(kept)?;
    }
    for (key, span) in samples.values().skip(kept) {
        let timing = timings.get(key).map(|span| files.timings(span)).transpose()?;
        merged.append_lines(key, &files.samples(span)?, timing.as_deref())?;
    }
    merged.sync()?;
    Ok(merged)
}

fn place(cells: &BTreeMap<(&str, &str), usize>, sample: &SampleRecord, dir: &Run) -> Result<Place> {
    let Some(&cell) = cells.get(&(&*sample.variant, &*sample.task)) else {
        let (dir, key) = (dir.path().display(), sample.key());
        let message = format!("{dir}: sample {key} is of no variant and task of the run");
        return Err(Error::new(ErrorKind::InvalidData, message)
            .with_help("restore the directory's samples.jsonl, or leave the directory out"));
    };
    Ok((cell, sample.doc_index, sample.repeat))
}

/// How many samples an earlier merge left in their places, from the first on, with their times. All that it left must be in `samples`.
fn kept(
    merged: &RunDir,
    cells: &BTreeMap<(&str, &str), usize>,
    samples: &BTreeMap<Place, (String, LineSpan)>,
    timings: &BTreeMap<String, LineSpan>,
    files: &mut Files<'_>,
) -> Result<usize> {
    let dir = merged.reader()?;
    let mut expected = samples.keys();
    let (mut kept, mut in_order) = (0, true);
    for line in dir.sample_lines()? {
        let line = line?;
        let at = place(cells, &line.value, &dir)?;
        let same = samples.get(&at).map(|(_, span)| Ok(files.samples(span)? == line.bytes)).transpose()?;
        if same != Some(true) {
            let (into, key) = (dir.path().display(), line.value.key());
            let what =
                if same.is_none() { "is in none of these directories" } else { "is another one in these directories" };
            let message = format!("{into}: holds samples already, and {key} {what}");
            return Err(Error::new(ErrorKind::Incompatible, message).with_help("name a new directory with `-o`"));
        }
        in_order &= expected.next() == Some(&at);
        kept += usize::from(in_order);
    }
    let mut lines = dir.timing_lines()?;
    for (place, (key, _)) in samples.values().take(kept).enumerate() {
        let Some(span) = timings.get(key) else { continue };
        let line = lines.next().transpose()?;
        if line.map(|line| line.bytes) != Some(files.timings(span)?) {
            return Ok(place);
        }
    }
    Ok(kept)
}

fn same_directory(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

/// So many shards in a row that are missing have a line each.
const MOST_NAMED: usize = 20;

/// What the directories lack of a whole run, a line each, in the order of the shards; whatever has no shard comes last.
/// Shards that no directory holds are known where all directories are shards of one number.
pub fn missing(runs: &[Run]) -> Result<Vec<String>> {
    let shard = |run: &Run| run.manifest().scope.shard;
    let mut ordered: Vec<&Run> = runs.iter().collect();
    ordered.sort_by_key(|run| shard(run).map_or((usize::MAX, 0), |shard| (shard.of, shard.index)));
    let of = ordered
        .first()
        .and_then(|run| shard(run))
        .filter(|first| runs.iter().all(|run| shard(run).is_some_and(|one| one.of == first.of)));
    let mut lines = Vec::new();
    let mut next = 0;
    let mut absent = |lines: &mut Vec<String>, until: usize| {
        let name = |index| of.map_or_else(String::new, |first| Shard { index, of: first.of }.to_string());
        match until.saturating_sub(next) {
            count @ 0..=MOST_NAMED => {
                lines.extend(
                    (next..next + count).map(|i| format!("shard {}: none of these directories holds it", name(i))),
                );
            }
            _ => lines.push(format!(
                "shards {} to {}: none of these directories holds them",
                name(next),
                name(until - 1)
            )),
        }
        next = next.max(until.saturating_add(1));
    };
    for run in ordered {
        if let Some(shard) = shard(run).filter(|_| of.is_some()) {
            absent(&mut lines, shard.index);
        }
        let mut there = 0;
        for line in run.sample_lines()? {
            line?;
            there += 1;
        }
        let all = run.manifest().samples();
        if there < all {
            let which = shard(run).map_or_else(String::new, |shard| format!("shard {shard}, "));
            lines.push(format!("{which}{}: {there} of {all} samples", run.path().display()));
        }
    }
    absent(&mut lines, of.map_or(0, |of| of.of));
    Ok(lines)
}

/// The logs of all directories, to read lines from anywhere.
struct Files<'a> {
    runs: &'a [Run],
    logs: Vec<[File; 2]>,
}

const NAMES: [&str; 2] = ["samples.jsonl", "timings.jsonl"];

impl<'a> Files<'a> {
    fn open(runs: &'a [Run]) -> Result<Self> {
        let open = |run: &Run, name: &str| open(&run.path().join(name));
        let logs = runs.iter().map(|run| Ok([open(run, NAMES[0])?, open(run, NAMES[1])?])).collect::<Result<_>>()?;
        Ok(Self { runs, logs })
    }

    fn samples(&mut self, place: &LineSpan) -> Result<Vec<u8>> {
        self.line(0, place)
    }

    fn timings(&mut self, place: &LineSpan) -> Result<Vec<u8>> {
        self.line(1, place)
    }

    fn line(&mut self, log: usize, place: &LineSpan) -> Result<Vec<u8>> {
        let file = &mut self.logs[place.run][log];
        let mut line = vec![0; place.length];
        let mut read = || -> io::Result<()> {
            file.seek(SeekFrom::Start(place.offset))?;
            file.read_exact(&mut line)
        };
        read().map_err(|e| unreadable(&self.runs[place.run].path().join(NAMES[log]), &e))?;
        Ok(line)
    }
}
