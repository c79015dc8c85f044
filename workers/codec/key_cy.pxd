from workers.codec.walk_cy cimport Walker

cdef class Keyed(Walker):
    cdef int shards
    cdef int _shard
    cdef bytes _table
    cdef bytearray _key
    cdef Py_ssize_t _klen

    cdef str _where(self)
    cdef object _unknown(self, str what, Py_ssize_t pos)
    cdef bint _inside(self)
    cdef int _read_key(self) except -1
    cdef int _shard_of(self, int slot_number) noexcept
