//! Merging shards into one run.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use logitfuse_core::{Error, ErrorKind, Result};

use crate::{Manifest, Run, RunDir, Scope, Shard, files::unreadable};

/// Where a line is: the run, and its bytes in that run's log.
struct LineSpan {
    run: usize,
    offset: u64,
    length: usize,
}

/// Puts the samples of several directories of the same experiment into a new one, in the order in which one run would have
/// made them, byte by byte. `metrics.json` is not written: it depends on the tasks.
///
/// # Errors
/// [`ErrorKind::Incompatible`] where the directories hold different experiments, two of them hold one sample with different
/// results, or the new directory is not empty.
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
    let mut samples: BTreeMap<(usize, usize, usize), (String, LineSpan)> = BTreeMap::new();
    let mut timings: BTreeMap<String, LineSpan> = BTreeMap::new();
    let mut files = Files::open(runs)?;
    for (run, dir) in runs.iter().enumerate() {
        for line in dir.sample_lines()? {
            let line = line?;
            let sample = line.value;
            let key = sample.key();
            let Some(&cell) = cells.get(&(&*sample.variant, &*sample.task)) else {
                let message = format!("{}: sample {key} is of no variant and task of the run", dir.path().display());
                return Err(Error::new(ErrorKind::InvalidData, message));
            };
            let place = LineSpan { run, offset: line.offset, length: line.bytes.len() };
            match samples.get(&(cell, sample.doc_index, sample.repeat)) {
                None => {
                    samples.insert((cell, sample.doc_index, sample.repeat), (key, place));
                }
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
    let mut merged = RunDir::start(into, &first.resolved()?, &manifest)?;
    if merged.samples() > 0 {
        return Err(Error::new(ErrorKind::Incompatible, format!("{}: holds samples already", into.display()))
            .with_help("name a new directory with `-o`"));
    }
    for (key, place) in samples.values() {
        let timing = timings.get(key).map(|place| files.timings(place)).transpose()?;
        merged.append_lines(key, &files.samples(place)?, timing.as_deref())?;
    }
    merged.sync()?;
    Ok(merged)
}

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
        let names = (next..until).filter_map(|index| Some(Shard { index, of: of?.of }));
        lines.extend(names.map(|shard| format!("shard {shard}: none of these directories holds it")));
        next = next.max(until + 1);
    };
    for run in ordered {
        if let Some(shard) = shard(run) {
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
        let open = |run: &Run, name: &str| {
            let path = run.path().join(name);
            File::open(&path).map_err(|e| unreadable(&path, &e))
        };
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
