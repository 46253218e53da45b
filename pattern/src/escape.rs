use logitfuse_core::Result;

use super::{
    class::Category,
    parser::{Flags, Fragment, Parser},
};

/// What a backslash stands for, in a class or outside.
pub(super) enum Escaped {
    Char(char),
    Category(Category),
}

impl Parser<'_> {
    /// After a backslash outside a class.
    pub(super) fn escape(&mut self, flags: Flags) -> Result<Fragment> {
        let start = self.at();
        let Some(c) = self.peek() else {
            return Err(self.error(start, "a backslash at the end"));
        };
        let assertion = match c {
            'A' => Some(r"\A".to_owned()),
            'Z' => Some(r"\z".to_owned()),
            'b' | 'B' => Some(super::class::boundary(c == 'B', flags)),
            _ => None,
        };
        if let Some(source) = assertion {
            self.bump();
            return Ok(Fragment::assertion(source));
        }
        if let '1'..='9' = c
            && let Some(group) = self.group_number(start)?
        {
            return self.back_reference(group, start, flags);
        }
        Ok(match self.escaped(start, false)? {
            Escaped::Char(c) => Fragment::one(super::class::literal(c, flags)),
            Escaped::Category(category) => {
                Fragment::one(super::class::class(&[super::class::Item::Category(category)], false, flags))
            }
        })
    }

    /// The number of a group, or nothing if the digits are an octal escape (three octal digits).
    fn group_number(&mut self, start: usize) -> Result<Option<u32>> {
        let digits: Vec<u32> = (0..3).map_while(|i| self.peek_at(i)?.to_digit(10)).collect();
        if digits.len() == 3 && digits.iter().all(|d| *d < 8) {
            return Ok(None);
        }
        let used = digits.len().min(2);
        (0..used).for_each(|_| self.bump());
        let number = digits[..used].iter().fold(0, |n, d| 10 * n + d);
        self.known_group(number, start).map(Some)
    }

    /// The escapes that mean the same in a class and outside.
    pub(super) fn escaped(&mut self, start: usize, in_class: bool) -> Result<Escaped> {
        let Some(c) = self.next() else {
            return Err(self.error(start, "a backslash at the end"));
        };
        if let Some(category) = Category::from_escape(c) {
            return Ok(Escaped::Category(category));
        }
        let c = match c {
            'a' => '\u{7}',
            'b' if in_class => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            'x' => self.hexadecimal(start, 2)?,
            'u' => self.hexadecimal(start, 4)?,
            'U' => self.hexadecimal(start, 8)?,
            '0'..='7' => self.octal(start, c)?,
            'N' => {
                return Err(
                    self.error(start, r"\N{…} is not supported; write the character, or \u and its four digits")
                );
            }
            c if c.is_ascii_alphanumeric() => {
                return Err(self.error(start, &format!(r"\{c} has no meaning in Python's regular expressions")));
            }
            c => c,
        };
        Ok(Escaped::Char(c))
    }

    fn hexadecimal(&mut self, start: usize, digits: usize) -> Result<char> {
        let mut number = 0;
        for _ in 0..digits {
            let digit = self.next().and_then(|c| c.to_digit(16));
            let Some(digit) = digit else {
                return Err(self.error(start, &format!("an escape of {digits} hexadecimal digits has fewer")));
            };
            number = 16 * number + digit;
        }
        char::from_u32(number).ok_or_else(|| self.error(start, "not a Unicode character"))
    }

    /// Up to three octal digits. Outside a class only `\0…` and three digits come here.
    fn octal(&mut self, start: usize, first: char) -> Result<char> {
        let mut number = first.to_digit(8).unwrap_or_default();
        for _ in 0..2 {
            let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) else { break };
            self.bump();
            number = 8 * number + digit;
        }
        if number > 0o377 {
            return Err(self.error(start, r"an octal escape goes from \0 to \377"));
        }
        char::from_u32(number).ok_or_else(|| self.error(start, "not a Unicode character"))
    }
}
