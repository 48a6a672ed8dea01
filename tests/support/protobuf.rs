//! Protocol buffers taken apart by field numbers, with no schema.

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

/// A message: its fields in the order they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message(pub Vec<(u64, Field)>);

impl Message {
    /// Panics on what is no message.
    pub fn parse(mut bytes: &[u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let field = match key & 7 {
                0 => Field::Number(varint(&mut bytes)),
                1 => Field::Number(u64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
                2 => {
                    let length = varint(&mut bytes);
                    Field::Bytes(take(&mut bytes, length as usize).to_vec())
                }
                5 => {
                    let four: [u8; 4] = take(&mut bytes, 4).try_into().unwrap();
                    Field::Number(u32::from_le_bytes(four).into())
                }
                other => panic!("wire type {other}"),
            };
            fields.push((key >> 3, field));
        }
        Self(fields)
    }

    fn all(&self, number: u64) -> impl Iterator<Item = &Field> {
        self.0.iter().filter(move |(at, _)| *at == number).map(|(_, field)| field)
    }

    /// A number; 0 where it is absent.
    pub fn number(&self, number: u64) -> u64 {
        match self.all(number).last() {
            Some(Field::Number(value)) => *value,
            None => 0,
            other => panic!("{number} is {other:?}"),
        }
    }

    pub fn has(&self, number: u64) -> bool {
        self.all(number).next().is_some()
    }

    /// A double.
    pub fn double(&self, number: u64) -> f64 {
        f64::from_bits(self.number(number))
    }

    pub fn bytes(&self, number: u64) -> Vec<u8> {
        match self.all(number).last() {
            Some(Field::Bytes(value)) => value.clone(),
            None => Vec::new(),
            other => panic!("{number} is {other:?}"),
        }
    }

    pub fn text(&self, number: u64) -> String {
        String::from_utf8(self.bytes(number)).unwrap()
    }

    /// The messages of a repeated field.
    pub fn messages(&self, number: u64) -> Vec<Self> {
        let each = |field: &Field| match field {
            Field::Bytes(bytes) => Self::parse(bytes),
            other => panic!("{number} is {other:?}"),
        };
        self.all(number).map(each).collect()
    }

    /// Eight bytes each.
    pub fn packed(&self, number: u64) -> Vec<u64> {
        let bytes = self.bytes(number);
        bytes.chunks_exact(8).map(|eight| u64::from_le_bytes(eight.try_into().unwrap())).collect()
    }
}

/// A field with bytes, written.
pub fn written(number: u8, bytes: &[u8]) -> Vec<u8> {
    assert!(bytes.len() < 128 && number < 16);
    let mut out = vec![number << 3 | 2, bytes.len() as u8];
    out.extend(bytes);
    out
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for at in 0..10 {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return value;
        }
    }
    panic!("a number that does not end");
}
