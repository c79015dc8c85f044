from workers.codec.key_cy cimport Keyed

cdef class Parted(Keyed):
    cdef int _type
    cdef bytes _before
    cdef bint _done
    cdef long long _total
    cdef list _fields
    cdef Py_ssize_t _at

    cdef int _begin_parts(self) except -1
    cdef tuple _part(self)
    cdef tuple _front(self)
    cdef tuple _woven(self)
    cdef tuple _end_parts(self)
