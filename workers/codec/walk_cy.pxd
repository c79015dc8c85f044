cdef class Walker:
    cdef bytearray _buf
    cdef bytes _code
    cdef bytes _starts  # where the program of each type and opcode begins, two bytes each
    cdef object _templates
    cdef Py_ssize_t _head  # first byte kept
    cdef Py_ssize_t _pos  # next byte to look at
    cdef Py_ssize_t _tail  # end of what was fed
    cdef Py_ssize_t _summed  # end of what is in the checksum
    cdef long long _base  # offset of _buf[0] in the RDB
    cdef long long _limit  # bytes: the most that is kept of one value
    cdef unsigned long long _crc
    cdef unsigned long long _number  # the length read last
    cdef long long _skip  # bytes of a string still to pass
    cdef unsigned long long _count  # of a loop that begins later, or of a template
    cdef int _pc
    cdef int _depth
    cdef int _module
    cdef unsigned long long[4] _left
    cdef int[4] _loop

    cdef int _append_bytes(self, data) except -1
    cdef int _room(self, Py_ssize_t size) except -1
    cdef int _sum(self) except -1
    cdef str _where(self)
    cdef object _bad(self, str message, Py_ssize_t pos)
    cdef int _length(self, const unsigned char* p, Py_ssize_t pos, Py_ssize_t end) except -1
    cdef int _string(self, const unsigned char* p, Py_ssize_t pos, Py_ssize_t end) except -1
    cdef bytes _text(self, const unsigned char* p, Py_ssize_t pos, Py_ssize_t end)
    cdef bint _begin(self, int program) noexcept
    cdef int _walk(self) except -1
    cdef void _jump(self, int op) noexcept
    cdef void _repeat(self, unsigned long long count) noexcept
    cdef int _branch(self, int op) except -1
    cdef int _newer(self, int op) except -1
