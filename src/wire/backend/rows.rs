//! Views of result sets.

use crate::read::{MessageError, Reader};

/// The columns of a result set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowDescription<'a> {
    count: u16,
    columns: &'a [u8],
}

/// One column of a result set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnView<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// The table it comes from; zero for none.
    pub table: u32,
    /// Its number in that table; zero for none.
    pub attribute: i16,
    /// The OID of its type.
    pub type_oid: u32,
    /// The size of the type in bytes; negative for variable size.
    pub size: i16,
    /// The type modifier.
    pub modifier: i32,
    /// The format of its values: 0 text, 1 binary.
    pub format: i16,
}

impl<'a> ColumnView<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, MessageError> {
        Ok(Self {
            name: reader.string()?,
            table: reader.u32()?,
            attribute: reader.i16()?,
            type_oid: reader.u32()?,
            size: reader.i16()?,
            modifier: reader.i32()?,
            format: reader.i16()?,
        })
    }
}

impl<'a> RowDescription<'a> {
    /// Reads the body of a RowDescription.
    ///
    /// # Errors
    /// More or fewer columns than counted.
    pub fn parse(body: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(body);
        let count = reader.u16()?;
        let columns = reader.rest();
        for _ in 0..count {
            ColumnView::read(&mut reader)?;
        }
        reader.end()?;
        Ok(Self { count, columns })
    }

    /// How many columns there are.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there is no column.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The columns in order.
    pub fn columns(&self) -> impl Iterator<Item = ColumnView<'a>> + use<'a> {
        let mut reader = Reader::new(self.columns);
        std::iter::from_fn(move || ColumnView::read(&mut reader).ok())
    }
}

/// The values of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataRow<'a> {
    count: u16,
    values: &'a [u8],
}

impl<'a> DataRow<'a> {
    /// Reads the body of a DataRow.
    ///
    /// # Errors
    /// A negative length other than -1, more or fewer values than counted.
    pub fn parse(body: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(body);
        let count = reader.u16()?;
        let values = reader.rest();
        for _ in 0..count {
            reader.value()?;
        }
        reader.end()?;
        Ok(Self { count, values })
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The values in order; `None` is NULL.
    pub fn values(&self) -> impl Iterator<Item = Option<&'a [u8]>> + use<'a> {
        let mut reader = Reader::new(self.values);
        std::iter::from_fn(move || reader.value().ok())
    }
}
