cdef class Filter:
    cdef bint every
    cdef bint slotted
    cdef bytes slots
    cdef list allow
    cdef list block

    cdef int takes_at(self, const unsigned char* buf, Py_ssize_t pos, Py_ssize_t size) except -1
