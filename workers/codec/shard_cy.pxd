cdef class Shard:
    cdef bytearray buf
    cdef Py_ssize_t size
    cdef Py_ssize_t keys

    cdef int append(
        self,
        long long expire,
        const unsigned char* key,
        Py_ssize_t klen,
        int kind,
        const unsigned char* src,
        Py_ssize_t start,
        Py_ssize_t size,
    ) except -1
    cdef tuple drain(self)
