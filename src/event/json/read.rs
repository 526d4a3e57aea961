//! JSON as serde sees it.

use std::borrow::Cow;

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};

use super::name::Name;
use super::problem::Problem;
use super::scan::{Container, Number, Scanner};

type Result<T> = std::result::Result<T, Problem>;

impl<'de> Scanner<'de> {
    /// Takes the whole text as one object.
    pub(super) fn record<T: Deserialize<'de>>(&mut self) -> Result<T> {
        let found = match self.peek() {
            Some(b'{') => {
                let record = T::deserialize(&mut *self)?;
                self.end()?;
                return Ok(record);
            }
            Some(b'[') => "an array",
            Some(b'"') => "a string",
            Some(b'0'..=b'9' | b'-') => "a number",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            _ => return Err(self.syntax("expected a JSON object")),
        };
        Err(Problem::custom(format_args!(
            "expected a JSON object, found {found}"
        )))
    }

    fn object<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value> {
        self.enter()?;
        let mut items = Items::of(self, Container::Object);
        let value = visitor.visit_map(&mut items)?;
        items.finish()?;
        Ok(value)
    }

    fn array<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value> {
        self.enter()?;
        let mut items = Items::of(self, Container::Array);
        let value = visitor.visit_seq(&mut items)?;
        items.finish()?;
        Ok(value)
    }

    #[inline]
    fn visit_string<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value> {
        match self.string()? {
            Cow::Borrowed(string) => visitor.visit_borrowed_str(string),
            Cow::Owned(string) => visitor.visit_string(string),
        }
    }

    #[inline]
    fn visit_number<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value> {
        match self.number()? {
            Number::Positive(value) => visitor.visit_u64(value),
            Number::Negative(value) => visitor.visit_i64(value),
            Number::Other(text) => visit_other_number(text, visitor),
        }
    }
}

/// Gives what is no integer of 64 bits as a float, so that a type of integers can refuse it.
#[cold]
fn visit_other_number<'de, V: Visitor<'de>>(text: &str, visitor: V) -> Result<V::Value> {
    match text.parse() {
        Ok(value) => visitor.visit_u64(value),
        Err(_) => visitor.visit_f64(finite(text)?),
    }
}

/// Reads the text of a number, whose form is known to be right.
fn finite(text: &str) -> Result<f64> {
    let value = text.parse().unwrap_or(f64::INFINITY);
    let problem = || Problem::custom(format_args!("{text} is beyond the range of floats"));
    if f64::is_finite(value) {
        Ok(value)
    } else {
        Err(problem())
    }
}

macro_rules! deserialize_if_next {
    ($($first:pat => $visit:ident: $($method:ident)*;)*) => {
        $($(
            #[inline]
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
                match self.peek() {
                    Some($first) => self.$visit(visitor),
                    _ => self.deserialize_any(visitor),
                }
            }
        )*)*
    };
}

macro_rules! deserialize_number_text {
    ($($method:ident $visit:ident;)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
                if !matches!(self.peek(), Some(b'0'..=b'9' | b'-')) {
                    return self.deserialize_any(visitor);
                }
                let text = self.number_text()?;
                match text.parse() {
                    Ok(value) => visitor.$visit(value),
                    Err(_) => visit_other_number(text, visitor),
                }
            }
        )*
    };
}

impl<'de> Deserializer<'de> for &mut Scanner<'de> {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.peek() {
            Some(b'"') => self.visit_string(visitor),
            Some(b'{') => self.object(visitor),
            Some(b'[') => self.array(visitor),
            Some(b't') => {
                self.literal("true")?;
                visitor.visit_bool(true)
            }
            Some(b'f') => {
                self.literal("false")?;
                visitor.visit_bool(false)
            }
            Some(b'n') => {
                self.literal("null")?;
                visitor.visit_unit()
            }
            _ => self.visit_number(visitor),
        }
    }

    deserialize_if_next! {
        b'0'..=b'9' | b'-' => visit_number:
            deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
            deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64;
        b'"' => visit_string:
            deserialize_str deserialize_string deserialize_char;
    }

    deserialize_number_text! {
        deserialize_i128 visit_i128;
        deserialize_u128 visit_u128;
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if !matches!(self.peek(), Some(b'0'..=b'9' | b'-')) {
            return self.deserialize_any(visitor);
        }
        // Rounded from the text: by way of an `f64` it would be rounded twice.
        let text = self.number_text()?;
        match text.parse::<f32>() {
            Ok(value) if value.is_finite() => visitor.visit_f32(value),
            _ => Err(Problem::custom(format_args!(
                "{text} is beyond the range of floats"
            ))),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if !matches!(self.peek(), Some(b'0'..=b'9' | b'-')) {
            return self.deserialize_any(visitor);
        }
        visitor.visit_f64(finite(self.number_text()?)?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.peek() == Some(b'n') {
            self.literal("null")?;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    /// Takes an object. Visitors of structs would take an array too, but a record has names.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.peek() {
            Some(b'{') => self.object(visitor),
            Some(b'[') => Err(Problem::invalid_type(Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_map(visitor)
    }

    /// Takes a variant: its name, or an object of one field, which is its name and its content.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        match self.peek() {
            Some(b'"') => visitor.visit_enum(self.string()?.into_deserializer()),
            Some(b'{') => {
                self.enter()?;
                let value = visitor.visit_enum(&mut *self)?;
                if self.next_item(Container::Object, false)? {
                    return Err(Problem::custom("a variant is one field"));
                }
                Ok(value)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.skip()?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool bytes byte_buf unit unit_struct seq tuple tuple_struct identifier
    }
}

/// The items of an array or an object, behind its bracket.
struct Items<'s, 'de> {
    scanner: &'s mut Scanner<'de>,
    container: Container,
    count: usize,
    /// Where the name of the last field stands.
    name: usize,
    ended: bool,
}

impl<'s, 'de> Items<'s, 'de> {
    #[inline]
    fn of(scanner: &'s mut Scanner<'de>, container: Container) -> Self {
        Items {
            scanner,
            container,
            count: 0,
            name: 0,
            ended: false,
        }
    }

    #[inline]
    fn next(&mut self) -> Result<bool> {
        if self.ended {
            return Ok(false);
        }
        let next = self.scanner.next_item(self.container, self.count == 0)?;
        self.ended = !next;
        self.count += 1;
        Ok(next)
    }

    /// Checks that the visitor has taken all.
    #[inline]
    fn finish(&mut self) -> Result<()> {
        if self.next()? {
            Err(Problem::custom("more items than expected"))
        } else {
            Ok(())
        }
    }

    #[cold]
    fn within_field(&self, problem: Problem) -> Problem {
        match self.scanner.again(self.name).name() {
            Ok(name) => problem.within(&name),
            Err(_) => problem,
        }
    }
}

impl<'de> MapAccess<'de> for &mut Items<'_, 'de> {
    type Error = Problem;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        if !self.next()? {
            return Ok(None);
        }
        self.scanner.peek();
        self.name = self.scanner.position();
        let name = self.scanner.name()?;
        self.scanner.colon()?;
        seed.deserialize(Name(name)).map(Some)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value> {
        seed.deserialize(&mut *self.scanner)
            .map_err(|problem| self.within_field(problem))
    }
}

impl<'de> SeqAccess<'de> for &mut Items<'_, 'de> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        if !self.next()? {
            return Ok(None);
        }
        let element = seed.deserialize(&mut *self.scanner);
        element
            .map(Some)
            .map_err(|problem| problem.within(&format!("[{}]", self.count - 1)))
    }
}

impl<'de> EnumAccess<'de> for &mut Scanner<'de> {
    type Error = Problem;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self)> {
        let name = self.name()?;
        self.colon()?;
        Ok((seed.deserialize(Name(name))?, self))
    }
}

impl<'de> VariantAccess<'de> for &mut Scanner<'de> {
    type Error = Problem;

    fn unit_variant(self) -> Result<()> {
        de::Deserialize::deserialize(self)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_map(visitor)
    }
}
