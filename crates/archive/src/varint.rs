//! Numbers as Go writes them: groups of seven bits, low group first; signed ones in zigzag.

/// Most bytes of one number.
pub(crate) const LENGTH_MAX: usize = 10;

/// Appends a number.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number.
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// What stands at the front of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    /// The number and its bytes.
    Read(u64, usize),
    /// It may go on behind what is there.
    Cut,
    /// No number has so many bits.
    Bad,
}

/// Reads the number at the front of `data`.
pub(crate) fn read(data: &[u8]) -> Number {
    let mut value = 0u64;
    for (index, byte) in data.iter().take(LENGTH_MAX).enumerate() {
        if index + 1 == LENGTH_MAX && *byte > 1 {
            return Number::Bad;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Number::Read(value, index + 1);
        }
    }
    if data.len() < LENGTH_MAX {
        Number::Cut
    } else {
        Number::Bad
    }
}

/// The signed number that an unsigned one stands for.
pub(crate) const fn signed(coded: u64) -> i64 {
    (coded >> 1).cast_signed() ^ -((coded & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length_are_read_back() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, u64::MAX >> shift] {
                let mut out = Vec::new();
                put(&mut out, value);
                assert_eq!(read(&out), Number::Read(value, out.len()));
                assert_eq!(read(&out[..out.len() - 1]), Number::Cut);
                let mut out = Vec::new();
                put_signed(&mut out, value.cast_signed());
                let Number::Read(coded, _) = read(&out) else {
                    panic!("not read");
                };
                assert_eq!(signed(coded), value.cast_signed());
            }
        }
        assert_eq!(read(&[0xff; 11]), Number::Bad);
    }
}
