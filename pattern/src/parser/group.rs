//! What follows an opening parenthesis.

use logitfuse_core::Result;

use super::{Flags, Fragment, Group, Kind, Parser};

impl Parser<'_> {
    /// After `(`; nothing for a comment.
    pub(super) fn group(&mut self, start: usize, flags: Flags) -> Result<Option<Fragment>> {
        if !self.eat('?') {
            return self.capture(None, start, flags).map(Some);
        }
        let Some(c) = self.next() else {
            return Err(self.error(start, "the group does not end"));
        };
        let fragment = match c {
            ':' => self.body(start, flags)?.wrapped("(?:"),
            '>' => self.body(start, flags)?.wrapped("(?>"),
            '=' => self.look(start, flags, "(?=")?,
            '!' => self.look(start, flags, "(?!")?,
            '<' if self.eat('=') => self.look_behind(start, flags, "(?<=")?,
            '<' if self.eat('!') => self.look_behind(start, flags, "(?<!")?,
            '<' => return Err(self.error(start, "a named group begins with (?P<")),
            'P' => self.named(start, flags)?,
            '(' => self.conditional(start, flags)?,
            '#' => {
                while self.peek().is_some_and(|c| c != ')') {
                    self.bump();
                }
                self.close(start)?;
                return Ok(None);
            }
            _ => {
                self.at -= 1;
                let (inner, global) = self.flags(start, flags)?;
                if global {
                    return Err(self.error(start, "flags for the whole pattern must be at its beginning"));
                }
                self.body(start, inner)?.wrapped("(?:")
            }
        };
        Ok(Some(fragment))
    }

    /// `(?i)` and the like, before everything else.
    pub(super) fn global_flags(&mut self, flags: &mut Flags) -> Result<()> {
        while self.peek() == Some('(') && self.peek_at(1) == Some('?') {
            let start = self.at;
            let named = (2..).map_while(|i| self.peek_at(i)).find(|c| !c.is_ascii_alphabetic());
            if named != Some(')') || self.peek_at(2) == Some(')') {
                break;
            }
            self.at += 2;
            *flags = self.flags(start, *flags)?.0;
        }
        Ok(())
    }

    /// Letters up to `)` (then they are global) or `:`, with those after `-` switched off.
    fn flags(&mut self, start: usize, outer: Flags) -> Result<(Flags, bool)> {
        let mut flags = outer;
        let (mut on, mut off) = (String::new(), String::new());
        let mut switch = true;
        loop {
            match self.next() {
                Some(c @ ('a' | 'i' | 'm' | 's' | 'u' | 'x')) => {
                    if switch { &mut on } else { &mut off }.push(c);
                    match c {
                        'a' => flags.ascii = true,
                        'u' => flags.ascii = false,
                        'i' => flags.ignore_case = switch,
                        'm' => flags.multi_line = switch,
                        's' => flags.dot_all = switch,
                        _ => flags.verbose = switch,
                    }
                }
                Some('-') if switch => switch = false,
                Some(c @ (':' | ')')) if !(on.is_empty() && off.is_empty()) && (switch || !off.is_empty()) => {
                    if on.contains('a') && on.contains('u') {
                        return Err(self.error(start, "the flags a and u exclude each other"));
                    }
                    if off.contains(['a', 'u']) || off.contains(|c| on.contains(c)) || (c == ')' && !switch) {
                        return Err(self.error(start, "these flags cannot be switched off here"));
                    }
                    return Ok((flags, c == ')'));
                }
                Some('L') => return Err(self.error(start, "the flag L is for byte strings")),
                _ => return Err(self.error(start, "not the beginning of any kind of group")),
            }
        }
    }

    fn body(&mut self, start: usize, flags: Flags) -> Result<Fragment> {
        let body = self.alternatives(flags)?;
        self.close(start)?;
        Ok(body)
    }

    fn close(&mut self, start: usize) -> Result<()> {
        if self.eat(')') { Ok(()) } else { Err(self.error(start, "the group does not end")) }
    }

    fn capture(&mut self, name: Option<String>, start: usize, flags: Flags) -> Result<Fragment> {
        let index = self.groups.len();
        self.groups.push(Group { name, width: None });
        let body = self.body(start, flags)?;
        self.groups[index].width = Some((body.min, body.max));
        if !self.conditional {
            return Ok(body.wrapped("("));
        }
        // The engine takes a choice between groups that only a condition asks for as one that need not be gone back to. An
        // empty look-ahead in them keeps it from that.
        Ok(body.wrapped("(?:").preceded_by("(?=)").wrapped("("))
    }

    fn look(&mut self, start: usize, flags: Flags, opening: &str) -> Result<Fragment> {
        let body = self.body(start, flags)?;
        Ok(Fragment { min: 0, max: 0, ..body.wrapped(opening) })
    }

    fn look_behind(&mut self, start: usize, flags: Flags, opening: &str) -> Result<Fragment> {
        let outer = self.look_behind_from;
        self.look_behind_from = Some(outer.unwrap_or(self.groups.len()));
        let body = self.body(start, flags)?;
        self.look_behind_from = outer;
        if body.min != body.max {
            return Err(self.error(start, "a look-behind needs a fixed width"));
        }
        Ok(Fragment { min: 0, max: 0, ..body.wrapped(opening) })
    }

    /// `(?P<name>…)` and `(?P=name)`.
    fn named(&mut self, start: usize, flags: Flags) -> Result<Fragment> {
        if self.eat('<') {
            let name = self.name('>', start)?;
            if self.groups.iter().any(|group| group.name.as_ref() == Some(&name)) {
                return Err(self.error(start, "the name is taken by another group"));
            }
            return self.capture(Some(name), start, flags);
        }
        if !self.eat('=') {
            return Err(self.error(start, "(?P must be followed by < or ="));
        }
        let name = self.name(')', start)?;
        let group = self.group_of_name(&name, start)?;
        self.back_reference(group, start, flags)
    }

    fn group_of_name(&self, name: &str, start: usize) -> Result<u32> {
        let position = self.groups.iter().position(|group| group.name.as_deref() == Some(name));
        let number = position.and_then(|at| u32::try_from(at + 1).ok());
        let number = number.ok_or_else(|| self.error(start, "there is no group of that name"))?;
        self.outside_look_behind(number, start)
    }

    fn text_until(&mut self, end: char, start: usize) -> Result<String> {
        let mut text = String::new();
        loop {
            match self.next() {
                Some(c) if c == end => return Ok(text),
                Some(c) => text.push(c),
                None => return Err(self.error(start, "the name of the group does not end")),
            }
        }
    }

    fn name(&mut self, end: char, start: usize) -> Result<String> {
        let name = self.text_until(end, start)?;
        let begins = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if begins && name.chars().all(|c| c.is_alphanumeric() || c == '_') {
            Ok(name)
        } else {
            Err(self.error(start, "the name of a group must be an identifier"))
        }
    }

    /// `(?(1)yes|no)` and `(?(name)yes|no)`.
    fn conditional(&mut self, start: usize, flags: Flags) -> Result<Fragment> {
        let asked = self.text_until(')', start)?;
        let group = if !asked.is_empty() && asked.chars().all(|c| c.is_ascii_digit()) {
            // Python lets a condition ask for a group that comes later.
            let number: u32 = asked
                .parse()
                .ok()
                .filter(|n| (1..=9999).contains(n))
                .ok_or_else(|| self.error(start, "groups are numbered from 1"))?;
            self.conditions.push((number, start));
            self.outside_look_behind(number, start)?
        } else {
            self.group_of_name(&asked, start)?
        };
        let yes = self.sequence(flags)?;
        let no = if self.eat('|') {
            self.sequence(flags)?
        } else {
            Fragment { min: 0, max: 0, ..Fragment::one(String::new()) }
        };
        if self.peek() == Some('|') {
            return Err(self.error(start, "a conditional group has at most two branches"));
        }
        self.close(start)?;
        Ok(Fragment {
            source: format!("(?({group})(?:{})|(?:{}))", yes.source, no.source),
            min: yes.min.min(no.min),
            max: yes.max.max(no.max),
            kind: Kind::Item,
        })
    }
}
